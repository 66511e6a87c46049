"""What others wrote, read strictly: files, JSON and YAML, each refused in one line where it is not sound."""

from muse_eval.reading.files import (
    CORPUS_BYTES,
    MissingFile,
    Unreadable,
    decoded,
    read_bytes,
    read_kept,
    read_text,
    require_files,
    shown,
    typed_path,
)
from muse_eval.reading.shapes import expect
from muse_eval.reading.strict_json import (
    MalformedJson,
    RepeatedKey,
    parse_json,
    parse_jsonl,
    read_json,
    read_jsonl,
)
from muse_eval.reading.strict_yaml import MalformedYaml, parse_yaml, read_yaml

__all__ = [
    "CORPUS_BYTES",
    "MalformedJson",
    "MalformedYaml",
    "MissingFile",
    "RepeatedKey",
    "Unreadable",
    "decoded",
    "expect",
    "parse_json",
    "parse_jsonl",
    "parse_yaml",
    "read_bytes",
    "read_json",
    "read_jsonl",
    "read_kept",
    "read_text",
    "read_yaml",
    "require_files",
    "shown",
    "typed_path",
]
