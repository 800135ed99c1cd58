"""Messages for errors of the hub, by the type of what was raised or of what caused it."""

import ssl

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from spt.hub_errors import hub_error


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://huggingface.co")


def answered(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    request = httpx.Request("GET", "https://huggingface.co/org/name/resolve/v2/config.json")
    return kind(f"{status} Client Error", response=httpx.Response(status, request=request))


def message(error: Exception) -> str:
    """The message where huggingface_hub wraps the error, as it does where a file is not in its cache."""
    wrapped = LocalEntryNotFoundError("Please check your connection")
    wrapped.__cause__ = error
    return str(hub_error("cannot load it", "org/name", wrapped, "model.revision", "use a folder"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            answered(RevisionNotFoundError, 404),
            "There is no such revision: https://huggingface.co/org/name/tree/main",
        ),
        (answered(RemoteEntryNotFoundError, 404), "There is no config.json at this revision. Check model.revision"),
        (answered(HfHubHTTPError, 429), "Too many requests"),
        (answered(HfHubHTTPError, 503), "The hub itself fails (HTTP 503): try again later"),
        (answered(HfHubHTTPError, 418), "The hub refuses the request (HTTP 418)"),
        (LocalTokenNotFoundError("no token"), "There is no token: log in with `hf auth login`"),
        (HFValidationError("a/b/c"), "A repository is named user/name"),
        (httpx.ProxyError("no"), "check HTTPS_PROXY"),
        (httpx.ReadTimeout("slow"), "The hub did not answer in time"),
        (httpx.ConnectTimeout("slow"), "The hub did not answer in time"),
        (httpx.ConnectError("no route"), "https://huggingface.co cannot be reached: check the network"),
        (ConnectionError("reset"), "https://huggingface.co cannot be reached: check the network"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_cause_behind_the_error(error, expected):
    assert expected in message(error) and message(error).endswith(". Or use a folder")


@pytest.mark.parametrize("error", [OfflineModeIsEnabled("offline"), ConnectionError("Couldn't reach it")])
def test_nothing_is_downloaded_offline(error, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for each in (message(error), str(hub_error("cannot load it", "org/name", error, "model.revision"))):
        assert "HF_HUB_OFFLINE is set, and this was not downloaded before" in each


def test_a_certificate_behind_a_connection_error():
    error = httpx.ConnectError("certificate verify failed")
    error.__context__ = ssl.SSLCertVerificationError("self-signed certificate")
    assert "The hub's certificate cannot be verified: set SSL_CERT_FILE" in message(error)


def test_the_reason_of_the_hub_is_told():
    error = answered(HfHubHTTPError, 403)
    error.server_message = "Private repository storage limit reached"
    said = str(hub_error("cannot push", "org/name", error, "its name", is_upload=True))
    assert "name/resolve/v2/config.json: Private repository storage limit reached). If the token may not" in said


@pytest.mark.parametrize("offline", [True, False])
def test_an_upload_is_not_advised_to_use_a_cached_copy(offline, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    for error in (ConnectionError("reset"), answered(HfHubHTTPError, 503)):
        said = str(hub_error("cannot push", "org/name", error, "its name", is_upload=True))
        assert "cached" not in said and "downloaded" not in said
    assert (
        "HF_HUB_OFFLINE is set: run without it" in str(hub_error("", "a/b", ConnectionError(), "", is_upload=True))
    ) == offline


def test_other_errors_advise_to_check_the_settings():
    said = str(hub_error("cannot load it", "org/name", KeyError("model_type"), "model.revision", "use a folder"))
    assert said == "cannot load it (KeyError: 'model_type'). Check model.revision. Or use a folder"
