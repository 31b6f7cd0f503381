"""Shifted CIFAR-10: the same photos as a backbone would meet them behind another lens.

    python3 tests/arrange_shifts.py $SRLORA_ASSETS/data/cifar10_jpeg3000 OUT [SHIFT ...]

writes OUT/SHIFT/{train,test}/CLASS/*.png for each shift (all of them by default). A network trained on upright photos
classifies these badly, and its features serve them badly too: here a low rank is a limit. PNG, so that nothing but the
shift is changed. Needs Pillow.
"""

import sys
from pathlib import Path

from PIL import Image, ImageChops, ImageFilter, ImageOps

SHIFTS = {
    "plain": lambda photo: photo,
    "rot90": lambda photo: photo.transpose(Image.ROTATE_90),
    "invert": ImageOps.invert,
    "blur": lambda photo: photo.filter(ImageFilter.GaussianBlur(1.2)),
    # On the results page. Policies were chosen on training photos held out of these two:
    "transpose-negative": lambda photo: ImageOps.invert(photo.transpose(Image.TRANSPOSE)),
    "upside-down-channels": lambda photo: Image.merge("RGB", [photo.transpose(Image.FLIP_TOP_BOTTOM).split()[c] for c in (1, 2, 0)]),
    # On these nothing was chosen; each was looked at once:
    "rot270-grey": lambda photo: photo.transpose(Image.ROTATE_270).convert("L").convert("RGB"),
    "rot180-solar": lambda photo: ImageOps.solarize(photo.transpose(Image.ROTATE_180), 128),
    "quarters": lambda photo: quarters(photo),
    # Added when the policy and the three results above were fixed; each looked at once:
    "rot90-posterize": lambda photo: ImageOps.posterize(photo.transpose(Image.ROTATE_90), 2),
    "upside-down-edges": lambda photo: photo.transpose(Image.FLIP_TOP_BOTTOM).filter(ImageFilter.FIND_EDGES),
    # One-sided pairs, their rate, levelling and decay were fixed when these four were named; with strips, each looked at once:
    "strips": lambda photo: strips(photo),
    "checker-negative": lambda photo: checker(photo),
    "rot90-emboss": lambda photo: photo.transpose(Image.ROTATE_90).filter(ImageFilter.EMBOSS),
    "rot135": lambda photo: photo.rotate(135, Image.BILINEAR),
    "rows-swapped": lambda photo: swap_rows(photo),
    # When to recompose was settled anew when these five were named; each looked at once:
    "rot45-negative": lambda photo: ImageOps.invert(photo.rotate(45, Image.BILINEAR)),
    "contour": lambda photo: photo.filter(ImageFilter.CONTOUR),
    "mirrored-strips": lambda photo: mirror_strips(photo),
    "colours-apart": lambda photo: part_colours(photo),
    "far-away": lambda photo: ImageOps.expand(photo.resize((16, 16), Image.BILINEAR), 8, (124, 116, 104)),
}


def checker(photo):
    """Every other tile of 8 x 8 as a negative."""
    tiled, negative = photo.copy(), ImageOps.invert(photo)
    for x in range(0, photo.width, 8):
        for y in range(x % 16, photo.height, 16):
            box = (x, y, x + 8, y + 8)
            tiled.paste(negative.crop(box), box)
    return tiled


def swap_rows(photo):
    """Bands of two rows, each changing places with the next one."""
    swapped = photo.copy()
    for y in range(0, photo.height - 3, 4):
        swapped.paste(photo.crop((0, y, photo.width, y + 2)), (0, y + 2))
        swapped.paste(photo.crop((0, y + 2, photo.width, y + 4)), (0, y))
    return swapped


def mirror_strips(photo):
    """Four upright strips, each mirrored in its place."""
    mirrored = photo.copy()
    for x in range(0, photo.width, 8):
        mirrored.paste(ImageOps.mirror(photo.crop((x, 0, x + 8, photo.height))), (x, 0))
    return mirrored


def part_colours(photo):
    """Red moves six pixels to the right, blue six down, both around the edge."""
    red, green, blue = photo.split()
    return Image.merge("RGB", (ImageChops.offset(red, 6, 0), green, ImageChops.offset(blue, 0, 6)))


def strips(photo):
    """Four upright strips, in the order 3, 1, 4, 2."""
    moved, width = photo.copy(), photo.width // 4
    for place, strip in enumerate((2, 0, 3, 1)):
        moved.paste(photo.crop((strip * width, 0, (strip + 1) * width, photo.height)), (place * width, 0))
    return moved


def quarters(photo):
    """Each quarter turned by 90 degrees in its place."""
    turned, half = photo.copy(), photo.width // 2
    for x in (0, half):
        for y in (0, half):
            box = (x, y, x + half, y + half)
            turned.paste(photo.crop(box).transpose(Image.ROTATE_90), box)
    return turned


def main(source, target, names):
    for name in names or SHIFTS:
        for path in sorted(source.glob("t*/*/*.jpg")):
            out = (target / name / path.relative_to(source)).with_suffix(".png")
            out.parent.mkdir(parents=True, exist_ok=True)
            SHIFTS[name](Image.open(path).convert("RGB")).save(out)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
