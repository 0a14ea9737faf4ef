"""The two grants, PKCE and revocation: Authlib's, with the memory they lack."""

from __future__ import annotations

from typing import Any

from authlib.oauth2.rfc6749 import InvalidRequestError
from authlib.oauth2.rfc6749.grants import (
    AuthorizationCodeGrant,
    RefreshTokenGrant,
)
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge

from .records import CODE_LIFE, AuthorizationCode, Client, IssuedToken, Person

AUTH_METHODS = ["client_secret_basic", "client_secret_post", "none"]


class Pkce(CodeChallenge):  # type: ignore[misc]
    """Proof of possession of the verifier (RFC 7636), by S256 only.

    Authlib asks a confidential client for nothing, and takes a challenge without a
    method for a plain one.
    """

    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Refuse what RFC 9700, section 2.1.1, advises against."""
        super().validate_code_challenge(grant, redirect_uri)
        params = grant.request.payload.data
        if "code_challenge" not in params:
            if grant.server.policy.require_pkce:
                raise InvalidRequestError("Missing 'code_challenge'")
        elif params.get("code_challenge_method") != "S256":
            raise InvalidRequestError("Unsupported 'code_challenge_method'")


class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]
    """The authorization code grant (RFC 6749, section 4.1)."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS

    @staticmethod
    def validate_authorization_redirect_uri(request: Any, client: Client) -> str:
        """Do as Authlib, which repeats the URI in an error that must be ASCII."""
        redirect_uri = request.payload.redirect_uri or client.get_default_redirect_uri()
        if not redirect_uri or not client.check_redirect_uri(redirect_uri):
            raise InvalidRequestError("The redirect_uri is not registered.")
        return str(redirect_uri)

    def save_authorization_code(self, code: str, request: Any) -> None:
        params = request.payload.data
        self.server.codes[code] = AuthorizationCode(
            code=code,
            person=request.user,
            scope=request.scope,
            redirect_uri=request.payload.redirect_uri,
            expires_at=self.server.clock() + CODE_LIFE,
            code_challenge=params.get("code_challenge"),
            code_challenge_method=params.get("code_challenge_method"),
        )

    def query_authorization_code(
        self, code: str, client: Client
    ) -> AuthorizationCode | None:
        """Find a code that may be used; a second use kills what the first gave."""
        found: AuthorizationCode | None = self.server.codes.get(code)
        if found and found.used:
            self.server.revoke_family(found.family)
            return None
        return found if found and self.server.clock() < found.expires_at else None

    def delete_authorization_code(self, authorization_code: AuthorizationCode) -> None:
        """Mark it: only a code that is remembered can be seen to come twice."""
        authorization_code.used = True

    def authenticate_user(self, authorization_code: AuthorizationCode) -> Person:
        return authorization_code.person


class RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]
    """Refreshing an access token (RFC 6749, section 6), with rotation."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS

    @property
    def INCLUDE_NEW_REFRESH_TOKEN(self) -> bool:
        policy = self.server.policy
        return bool(policy.rotate_refresh_tokens and policy.issue_refresh_token)

    def authenticate_refresh_token(self, refresh_token: str) -> IssuedToken | None:
        """Find a live one; one that is spent kills its family (RFC 9700, 4.14.2)."""
        for token in self.server.tokens:
            if token.refresh_token == refresh_token:
                if token.spent:
                    self.server.reuse_detected.append(token)
                    self.server.revoke_family(token.family)
                return token if token.is_refreshable() else None
        return None

    def authenticate_user(self, refresh_token: IssuedToken) -> Person:
        return refresh_token.person

    def revoke_old_credential(self, refresh_token: IssuedToken) -> None:
        refresh_token.spent = self.INCLUDE_NEW_REFRESH_TOKEN


class Revocation(RevocationEndpoint):  # type: ignore[misc]
    """Revocation (RFC 7009) of an access token, or of a whole login."""

    CLIENT_AUTH_METHODS = AUTH_METHODS

    def query_token(
        self, token_string: str, token_type_hint: str | None
    ) -> IssuedToken | None:
        """Look among all tokens: the hint is only a hint (RFC 7009, section 2.1)."""
        for token in self.server.tokens:
            if token_string in (token.access_token, token.refresh_token):
                return token  # type: ignore[no-any-return]
        return None

    def revoke_token(self, token: IssuedToken, request: Any) -> None:
        if request.form["token"] == token.access_token:
            token.revoked = True
        else:
            self.server.revoke_family(token.family)
