"""Log in with GitHub, and say who somebody is.

Register an OAuth app at https://github.com/settings/developers with the callback URL
http://127.0.0.1:5000/login/github/authorized, then::

    export GITHUB_OAUTH_CLIENT_ID=… GITHUB_OAUTH_CLIENT_SECRET=…
    python examples/quickstart.py

and open http://127.0.0.1:5000 in a browser.
"""

import os
import secrets

from quart import Quart, redirect, url_for

from quart_dance.contrib.github import github, make_github_blueprint

app = Quart(__name__)
# Without a key of your own, everybody is logged out when the application restarts.
app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex()
for key in ("GITHUB_OAUTH_CLIENT_ID", "GITHUB_OAUTH_CLIENT_SECRET"):
    app.config[key] = os.environ.get(key)

blueprint = make_github_blueprint(scope="read:user")
app.register_blueprint(blueprint, url_prefix="/login")


@app.get("/")
async def index():
    if not await github.authorized:
        return redirect(url_for("github.login"))
    user = (await github.get("/user")).json()
    return f"You are @{user['login']}"


if __name__ == "__main__":
    if not app.config["GITHUB_OAUTH_CLIENT_ID"]:
        raise SystemExit(__doc__)
    app.run(host="127.0.0.1", port=5000)
