"""The older name of `quart_dance.flask.consumer.storage.sqla`."""

from ..storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage

#: The older name of `SQLAlchemyStorage`.
SQLAlchemyBackend = SQLAlchemyStorage

__all__ = ["OAuthConsumerMixin", "SQLAlchemyBackend", "SQLAlchemyStorage"]
