"""No secret in any log line: what looks like a token, a signed link or a session is taken out of every record.

Whichever logger wrote it, its values and its traceback included.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Any, Final

HIDDEN: Final = "[secret]"
_SECRETS: Final = re.compile(
    # of the hub: bearer tokens, secrets of webhooks; what `hub.accounts.links` signs (base64url, a dot, base64url)
    r"(?:hf|ph|whsec)_[A-Za-z0-9_-]{16,}"
    r"|\b[A-Za-z0-9_-]{40,}\.[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"
    # a signed link, whatever is left of it
    r"|(?<=/lfs/objects/)[^/\s'\"?]+|(?<=/lfs/parts/)[^/\s'\"?]+|(?<=/lfs/complete/)[^/\s'\"?]+"
    r"|(?<=/xet-fetch/)[^/\s'\"?]+"
    # headers, cookies and fields
    r"|(?i:(?<=bearer ))[^\s,'\"]+|(?i:(?<=basic ))[A-Za-z0-9+/=]{8,}"
    r"|(?<=parcelhub_session=)[^;\s'\"]+|(?<=parcelhub_form=)[^;\s'\"]+"
    r"|(?i:(?<=token=)|(?<=csrf=)|(?<=signature=))[^&\s'\"]+"
    # a run of random characters as `secrets.token_urlsafe(32)` makes it: 43 of them, of all three sorts
    r"|(?<![A-Za-z0-9_/-])(?=[A-Za-z0-9_-]*[a-z])(?=[A-Za-z0-9_-]*[A-Z])(?=[A-Za-z0-9_-]*[0-9])[A-Za-z0-9_-]{43}"
    r"(?![A-Za-z0-9_-])"
)
_FORMATTER: Final = logging.Formatter()
_LOCK: Final = threading.Lock()


def redacted(text: str) -> str:
    """The text without its secrets."""
    return _SECRETS.sub(HIDDEN, text)


def masked(text: str) -> str:
    """The text with each secret replaced by as many stars, where positions in it count."""
    return _SECRETS.sub(lambda found: "*" * len(found[0]), text)


class RedactedRecord(logging.LogRecord):
    """A log record whose message, values and traceback hold no secret, for every handler alike."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # as its parent's
        super().__init__(*args, **kwargs)
        self.msg = redacted(self.msg) if isinstance(self.msg, str) else _value(self.msg)
        if isinstance(self.args, tuple):
            self.args = tuple(_value(one) for one in self.args)
        elif isinstance(self.args, dict):
            self.args = {name: _value(one) for name, one in self.args.items()}
        if self.exc_info and self.exc_info[0] is not None:
            self.exc_text = redacted(_FORMATTER.formatException(self.exc_info))  # formatters use this if it is there
        if self.stack_info:
            self.stack_info = redacted(self.stack_info)

    def getMessage(self) -> str:  # noqa: N802  # logging's name
        """The message; a secret that two values make together goes as well."""
        return redacted(super().getMessage())


def redact_logs() -> None:
    """From here on in this process. Safe to call again."""
    with _LOCK:
        if logging.getLogRecordFactory() is not RedactedRecord:
            logging.setLogRecordFactory(RedactedRecord)


def _value(one: object) -> Any:  # noqa: ANN401  # whatever is logged
    """A value to be formatted: as it is, unless its text holds a secret."""
    if one is None or isinstance(one, int | float):
        return one
    text = str(one)
    clean = redacted(text)
    return one if clean == text else clean
