"""Files at any fsspec URL: folders, manifests written last, and what is published with them."""

from llmcore.storage.content import FileEntry, canonical_json, content_hash, parsed_json, readable_json
from llmcore.storage.folder import Folder, storage_errors
from llmcore.storage.manifest import (
    MANIFEST,
    Manifest,
    read_manifest,
    read_verified,
    verify_files,
    verify_published,
    write_file,
    write_manifest,
)
from llmcore.storage.place import artifact, check_writable, folder_at, is_location, resolve_storage
from llmcore.storage.publish import Publication, publish
from llmcore.storage.retries import file_system

__all__ = [
    "MANIFEST",
    "FileEntry",
    "Folder",
    "Manifest",
    "Publication",
    "artifact",
    "canonical_json",
    "check_writable",
    "content_hash",
    "file_system",
    "folder_at",
    "is_location",
    "parsed_json",
    "publish",
    "read_manifest",
    "read_verified",
    "readable_json",
    "resolve_storage",
    "storage_errors",
    "verify_files",
    "verify_published",
    "write_file",
    "write_manifest",
]
