"""Limits on what strangers send, as they are unless configured (`input.max_...`)."""

MAX_IMAGE_PIXELS = 200_000_000
MAX_IMAGE_BYTES = 256 << 20
MAX_CAPTION_CHARACTERS = 1_000_000
MAX_MEMBERS = 3_000_000
MAX_DECODE_SECONDS = 60.0
