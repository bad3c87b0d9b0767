"""Writes a new file so that it is whole or not there, and never over another by accident."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from llama_client.errors import ConfigError


def write_whole(path: Path, text: str, *, overwrite: bool) -> None:
    """Writes a text file beside its place and then moves it there.

    Args:
        path: The file. Where it is a symbolic link, what it leads to is replaced.
        text: What it will hold.
        overwrite: Whether a file that is there is replaced.

    Raises:
        ConfigError: There is one and it may not be replaced, or the place cannot be written.
    """
    require_free(path, overwrite=overwrite)
    target = path.resolve()
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.draft")
    try:
        # The user's own mode for new files, unlike that of temporary ones.
        with draft.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        if overwrite:
            _replace(draft, target)
        else:
            _place(draft, target, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        draft.unlink(missing_ok=True)


def require_free(path: Path, *, overwrite: bool) -> None:
    """Refuses a place that cannot be written.

    Args:
        path: The file.
        overwrite: Whether one that is there may be replaced.

    Raises:
        ConfigError: There is one and it may not, it is a folder, or its folder is not there.
    """
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; name a file in it")
        if not overwrite and (path.exists() or path.is_symlink()):
            raise ConfigError(f"{path}: is there already, and stays as it is; --force replaces it")
        if not path.resolve().parent.is_dir():
            raise ConfigError(f"{path}: there is no folder {path.parent}; make it first")
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{path}: cannot be written ({error})") from None


def _replace(draft: Path, target: Path) -> None:
    if target.exists():
        shutil.copymode(target, draft)
    draft.replace(target)


def _place(draft: Path, target: Path, path: Path) -> None:
    """Moves the draft to a place where nothing is, however late something comes there."""
    try:
        target.hardlink_to(draft)
    except FileExistsError:
        raise ConfigError(f"{path}: is there already, and stays as it is; --force replaces it") from None
    except OSError:  # a file system without links
        require_free(path, overwrite=False)
        draft.replace(target)
