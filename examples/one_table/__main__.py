"""Runs a provider and the two applications, each in a process of its own."""

import asyncio
import os
import secrets
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from hypercorn.asyncio import serve
from hypercorn.config import Config
from models import Base
from sqlalchemy import create_engine

from quart_dance.testing import DevProvider

HERE = Path(__file__).parent


def create_tables(database):
    """Make the table of the tokens, and what else the models have."""
    engine = create_engine(f"sqlite:///{database}")
    Base.metadata.create_all(engine)
    engine.dispose()
    # Readers and writers of several processes then do not wait for each other.
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=wal")


def main(flask_port=5000, quart_port=5001, provider_port=5002):
    """Run all three, each on a port of its own."""
    address = f"127.0.0.1:{provider_port}"
    provider = DevProvider(url=f"http://{address}", expires_in=120)
    config = Config()
    config.bind = [address]
    with TemporaryDirectory() as folder:
        database = f"{folder}/app.db"
        create_tables(database)
        env = {**os.environ, "DATABASE": database, "PROVIDER": provider.url}
        env |= {"SECRET_KEY": secrets.token_hex(), "no_proxy": "127.0.0.1"}
        apps = [
            subprocess.Popen(
                [sys.executable, HERE / f"{name}_app.py"],
                env={**env, "PORT": str(port)},
            )
            for name, port in (("flask", flask_port), ("quart", quart_port))
        ]
        try:
            asyncio.run(serve(provider, config))  # until Ctrl-C
        finally:
            for app in apps:
                app.terminate()
            for app in apps:
                app.wait()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
