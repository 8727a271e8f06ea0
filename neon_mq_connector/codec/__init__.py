"""Messages as bytes: the legacy format and JSON, read with bounds and written with care.

The formats themselves are described in ``docs/reference/wire-format.md``.
"""

from __future__ import annotations

from neon_mq_connector.codec.formats import (
    CONTENT_TYPE_JSON,
    CONTENT_TYPE_LEGACY,
    WireFormat,
    content_type_of,
    decode_body,
    encode_body,
)
from neon_mq_connector.codec.legacy import b64_to_dict, dict_to_b64

__all__ = [
    "CONTENT_TYPE_JSON",
    "CONTENT_TYPE_LEGACY",
    "WireFormat",
    "b64_to_dict",
    "content_type_of",
    "decode_body",
    "dict_to_b64",
    "encode_body",
]
