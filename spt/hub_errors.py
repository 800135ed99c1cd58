"""Errors of the Hugging Face hub as messages: the cause by the type of the exception, and what to do about it."""

import errno
import ssl
from collections.abc import Iterator
from typing import Any

from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from spt.errors import SptError, cannot_write

XET = "If a proxy blocks the hub's storage of large files, HF_HUB_DISABLE_XET=1 downloads without it"
LOG_IN = "log in with `hf auth login`"
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def hub_error(
    what: str, repository: str, error: BaseException, settings: str, instead: str = "", *, is_upload: bool = False
) -> SptError:
    """The error for a request to the hub that failed, also where the hub is not the cause.

    Args:
        what: what failed, the first words of the message.
        repository: "user/name", "datasets/user/name" for data.
        error: what was raised; its causes are looked through.
        settings: those that name the repository, the revision and the files, to check where one of them is not there.
        instead: what works without the hub.
        is_upload: whether something was to be sent, so that a cached copy does not help.
    """
    refused = None
    for each in _causes(error):
        if isinstance(each, OSError) and each.errno in NO_SPACE:
            path = each.filename or constants.HF_HOME
            return cannot_write(f"the hub's cache, {path}", each, "or set HF_HOME to a folder that can be written")
        refused = each if isinstance(each, HfHubHTTPError) else refused
    if refused is None:
        reason = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), 'no reason given')}"
    else:
        reason = f"{type(refused).__name__}: HTTP {refused.response.status_code} for {refused.response.url}"
        message = " ".join((refused.server_message or "").split()).rstrip(".")
        reason += f": {message}" if message else ""
    remedy = hub_cause(error, repository, settings, is_upload=is_upload) or f"Check {settings}"
    return SptError(f"{what} ({reason}). {remedy}{f'. Or {instead}' if instead else ''}")


def hub_cause(error: BaseException, repository: str, settings: str, *, is_upload: bool = False) -> str | None:
    """What went wrong at the hub, and the remedy; None if `error` and its causes are not about the hub."""
    # The deepest error of each type.
    types: dict[type, Any] = {kind: each for each in _causes(error) for kind in type(each).__mro__}
    page = f"{constants.ENDPOINT}/{repository}"
    cached = "" if is_upload else ". HF_HUB_OFFLINE=1 uses the cached copy"
    if GatedRepoError in types:
        return f"The repository is gated: accept its licence on {page}, then {LOG_IN}"
    if DisabledRepoError in types:
        return f"The repository is disabled: {page} may say why"
    if RepositoryNotFoundError in types:
        return (
            f"The hub shows no {page}: it may have moved, or if it is private, {LOG_IN} as a user who may see it. "
            f"Check {settings}"
        )
    if RevisionNotFoundError in types:
        return f"There is no such revision: {page}/tree/main lists branches, tags and commits. Check {settings}"
    if (missing := types.get(RemoteEntryNotFoundError)) is not None:
        return f"There is no {missing.response.url.path.rpartition('/')[2]} at this revision. Check {settings}"
    if constants.HF_HUB_OFFLINE and types.keys() & {LocalEntryNotFoundError, ConnectionError}:
        if is_upload:
            return "HF_HUB_OFFLINE is set: run without it, with a network"
        return "HF_HUB_OFFLINE is set, and this was not downloaded before: run once without it, with a network"
    if (refused := types.get(HfHubHTTPError)) is not None:
        return _cause_of_status(refused.response.status_code, page, cached)
    if LocalTokenNotFoundError in types:
        return f"There is no token: {LOG_IN}"
    if HFValidationError in types:
        return "A repository is named user/name"
    if ssl.SSLError in types:
        return "The hub's certificate cannot be verified: set SSL_CERT_FILE to the certificates of your network's proxy"
    if httpx.ProxyError in types:
        return "The proxy does not let the request through: check HTTPS_PROXY and HTTP_PROXY"
    if httpx.TimeoutException in types or TimeoutError in types:
        return "The hub did not answer in time: try again, with more seconds in HF_HUB_DOWNLOAD_TIMEOUT"
    if types.keys() & {httpx.HTTPError, ConnectionError, LocalEntryNotFoundError}:
        return f"{constants.ENDPOINT} cannot be reached: check the network{cached}{'' if is_upload else f'. {XET}'}"
    return None


def _cause_of_status(status: int, page: str, cached: str) -> str:
    if status == 401:
        return f"The hub does not know this user: {LOG_IN}, with a token that is still valid (HF_TOKEN comes first)"
    if status == 403:
        return f"If the token may not do this, {LOG_IN}, with one that may read, or write, {page}"
    if status == 409:
        return f"Another change came between: look at {page} and try again"
    if status == 429:
        return f"Too many requests: wait some minutes; users who {LOG_IN} may make more"
    if status >= 500:
        return f"The hub itself fails (HTTP {status}): try again later{cached}"
    return f"The hub refuses the request (HTTP {status})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
