"""The table that both applications use; each one could have a model of its own."""

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from quart_dance.consumer.storage.sqla import OAuthConsumerMixin


class Base(DeclarativeBase):
    pass


class OAuth(OAuthConsumerMixin, Base):
    """A token for each provider and user."""

    user_id: Mapped[int] = mapped_column()
