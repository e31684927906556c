"""How pictures of any shape become the squares that models look at, and which sides these have."""

# `centre`: the largest central square, resized. `squash`: the whole picture, resized to a square
# whatever its shape. `random`: as `centre`, but larger, and training sees another part each time;
# validation and whoever asks the model see the middle.
CROPS = ("centre", "squash", "random")
# Sides in pixels: CIFAKE's, and what a laptop can still train with.
SMALLEST_SIDE, LARGEST_SIDE = 32, 320


def margin(size: int, crop: str) -> int:
    """Return how many pixels lie around what a model sees, for random crops in training.

    Side and margins together are 8/7 of the side: 256 for 224, as is usual with ImageNet.

    Raises:
        ValueError: The crop is unknown.
    """
    if crop not in CROPS:
        raise ValueError(f"Expected a crop out of {CROPS}, received {crop!r}")
    return round(size / 14) if crop == "random" else 0


def check_image_size(image_size: int) -> None:
    """Refuse a side in pixels that the suite is not made for.

    Raises:
        ValueError: It is not from `SMALLEST_SIDE` to `LARGEST_SIDE`.
    """
    if not SMALLEST_SIDE <= image_size <= LARGEST_SIDE:
        raise ValueError(
            f"Expected an image_size from {SMALLEST_SIDE} to {LARGEST_SIDE} pixels, received "
            f"{image_size}"
        )


def images_together(side: int) -> int:
    """Return how many images a model is asked about at once; it makes four views of each.

    More are hardly faster, and what a network keeps of large ones fills the memory.
    """
    return max(1, min(64, 64 * 96**2 // side**2))
