"""What kind of image some bytes are."""

from __future__ import annotations

# Groq takes 20 MB as an address and 4 MB inline; llama.cpp and Ollama scale down whatever they get.
MAX_IMAGE_BYTES = 20 << 20
_TYPES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)


def image_type(data: bytes | bytearray) -> str | None:
    """The media type of an image, by its first bytes; None: it is none that models take.

    Example:
        >>> image_type(b"GIF89a...")
        'image/gif'
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _TYPES if data.startswith(magic)), None)
