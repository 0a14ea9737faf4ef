"""A provider and an application that logs in there, on two ports of this machine."""
