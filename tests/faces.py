"""Procedural faces in the layout of CelebAMask-HQ: photos, masks of the parts, and
attributes that follow from what is drawn.

Every pixel belongs to the part that was painted there last, so that photo and masks
agree. The faces show the eighteen attributes that ``celebamask`` keeps; the other
twenty-two are -1 throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

# fmt: off
NAMES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose", "Black_Hair",
    "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup",
    "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose",
    "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat",
    "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
)
PARTS = (
    "cloth", "neck", "hair", "l_ear", "r_ear", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "nose", "mouth", "u_lip", "l_lip", "eye_g", "hat",
)
# fmt: on
HAIR: dict[str, Colour] = {
    "Black_Hair": (28, 24, 26),
    "Blond_Hair": (228, 198, 112),
    "Brown_Hair": (108, 66, 34),
    "Gray_Hair": (164, 166, 172),
    "": (168, 62, 28),  # red, which has no attribute among the eighteen
}
TONES: tuple[Colour, ...] = ((226, 178, 142), (198, 146, 108), (150, 104, 74), (104, 70, 52))
PALE: Colour = (250, 234, 222)


@dataclass(frozen=True)
class Face:
    """What one face shows, and the colours that no attribute fixes."""

    has: frozenset[str]
    hair: Colour
    skin: Colour
    cloth: Colour
    hat: Colour
    back: Colour
    centre: tuple[float, float]


def draw_faces(folder: Path, count: int, size: int = 64, seed: int = 0) -> None:
    """Draw faces of size×size into a folder, made if need be: ``CelebA-HQ-img/``,
    ``CelebAMask-HQ-mask-anno/`` and the attribute file.

    A face depends on the seed and its number alone, whatever the count.
    """
    (folder / "CelebA-HQ-img").mkdir(parents=True)
    rows = []
    for i in range(count):
        face = random_face(np.random.default_rng((seed, i)))
        photo, owner = paint(face, size)
        photo.save(folder / "CelebA-HQ-img" / f"{i}.jpg", quality=95, subsampling=0)
        masks = folder / "CelebAMask-HQ-mask-anno" / str(i // 2000)
        masks.mkdir(parents=True, exist_ok=True)
        for number, part in enumerate(PARTS, 1):
            if (owner == number).any():
                Image.fromarray(np.where(owner == number, 255, 0).astype(np.uint8)).save(
                    masks / f"{i:05d}_{part}.png"
                )
        rows.append(
            " ".join([f"{i}.jpg", "", *("1" if name in face.has else "-1" for name in NAMES)])
        )
    (folder / "CelebAMask-HQ-attribute-anno.txt").write_text(
        "\n".join([str(count), " ".join(NAMES), *rows, ""])
    )


def random_face(rng: np.random.Generator) -> Face:
    """A face whose attributes exclude each other where they do in people: a bald one
    has no hair to be straight, a hat hides the hairline."""

    def lucky(share: float) -> bool:
        return bool(rng.random() < share)

    male, hat = lucky(0.5), lucky(0.2)
    bald = male and lucky(0.2)
    colour = [*HAIR][rng.integers(len(HAIR))]
    pale = lucky(0.2)
    chances = {
        "Bangs": 0.0 if bald or hat else 0.35,
        "Receding_Hairline": 0.0 if bald or hat or not male else 0.4,
        "Bushy_Eyebrows": 0.35,
        "Eyeglasses": 0.3,
        "Heavy_Makeup": 0.0 if male else 0.5,
        "Mouth_Slightly_Open": 0.4,
        "Mustache": 0.4 if male else 0.0,
        "Smiling": 0.5,
    }
    has = {name for name, share in chances.items() if lucky(share)}
    if "Bangs" in has:
        has.discard("Receding_Hairline")
    has |= {
        name
        for name, true in {
            "Male": male,
            "Wearing_Hat": hat,
            "Bald": bald,
            "Pale_Skin": pale,
        }.items()
        if true
    }
    has |= set() if bald else {colour, "Wavy_Hair" if lucky(0.5) else "Straight_Hair"}
    jitter = rng.integers(-10, 11, (2, 3))
    tone = PALE if pale else TONES[rng.integers(len(TONES))]
    cloth, cap, back = (
        (int(r), int(g), int(b)) for r, g, b in rng.integers((30, 30, 30), (220, 220, 220), (3, 3))
    )
    x, y = rng.uniform(-0.04, 0.04, 2)
    return Face(
        frozenset(has - {""}),
        _shifted(HAIR[colour], jitter[0]),
        _shifted(tone, jitter[1] // 3),
        cloth,
        cap,
        back,
        (x, y),
    )


def paint(face: Face, size: int) -> tuple[Image.Image, np.ndarray]:
    """The photo, and by pixel the number of its part in ``PARTS``, counted from 1; 0 is
    the background."""
    canvas = _Canvas(size, face.centre, face.back)
    male, bald, wavy = ("Male" in face.has, "Bald" in face.has, "Wavy_Hair" in face.has)
    wide, low = (0.25, 0.86) if male else (0.22, 0.84)
    dark = _shifted(face.skin, np.array([-70, -70, -70]))
    canvas.polygon(
        "cloth",
        face.cloth,
        [(0.1, 1.1), (0.16, 0.94), (0.36, 0.87), (0.64, 0.87), (0.84, 0.94), (0.9, 1.1)],
    )
    if not bald:
        _hair(canvas, face, wide, 0.62 if male else 0.9, wavy)
    canvas.rectangle("neck", _shifted(face.skin, np.array([-25, -25, -25])), (0.4, 0.72, 0.6, 0.92))
    for part, x in (("r_ear", 0.5 - wide), ("l_ear", 0.5 + wide)):
        canvas.ellipse(
            part, _shifted(face.skin, np.array([-12, -12, -12])), (x - 0.04, 0.47, x + 0.04, 0.6)
        )
    canvas.ellipse("skin", face.skin, (0.5 - wide, 0.22, 0.5 + wide, low))
    if male:  # a broad jaw
        canvas.polygon(
            "skin", face.skin, [(0.5 - wide, 0.54), (0.36, 0.84), (0.64, 0.84), (0.5 + wide, 0.54)]
        )
    _top(canvas, face, wide)
    _eyes(canvas, face, dark)
    canvas.polygon(
        "nose",
        _shifted(face.skin, np.array([-30, -30, -30])),
        [(0.5, 0.5), (0.45, 0.62), (0.55, 0.62)],
    )
    _mouth(canvas, face, dark)
    if "Wearing_Hat" in face.has:
        canvas.ellipse("hat", face.hat, (0.26, 0.04, 0.74, 0.5), start=180, end=360)
        canvas.rectangle("hat", face.hat, (0.16, 0.26, 0.84, 0.32))
    return canvas.photo, np.asarray(canvas.owner)


def _hair(canvas: _Canvas, face: Face, wide: float, down: float, wavy: bool) -> None:
    """What is seen around the face: to the ears or the shoulders, with a smooth or a
    scalloped edge."""
    left, right = 0.5 - wide - 0.06, 0.5 + wide + 0.06
    canvas.ellipse("hair", face.hair, (left, 0.12, right, 0.74))
    canvas.rectangle("hair", face.hair, (left, 0.43, right, down))
    if wavy:
        for y in np.arange(0.36, down + 0.01, 0.09):
            for x in (left, right):
                canvas.ellipse("hair", face.hair, (x - 0.06, y - 0.055, x + 0.06, y + 0.055))


def _top(canvas: _Canvas, face: Face, wide: float) -> None:
    """The hairline: high on both sides where it recedes, down to the brows with bangs."""
    if "Bald" in face.has:
        return
    if "Receding_Hairline" in face.has:
        canvas.polygon("hair", face.hair, [(0.4, 0.19), (0.5, 0.28), (0.6, 0.19)])
        return
    canvas.ellipse(
        "hair", face.hair, (0.5 - wide, 0.2, 0.5 + wide, 0.56), start=205, end=335, chord=True
    )
    if "Bangs" in face.has:
        for x in np.linspace(0.5 - wide + 0.05, 0.5 + wide - 0.05, 5):
            canvas.polygon(
                "hair",
                face.hair,
                [(x - 0.055, 0.27), (x + 0.055, 0.27), (x + 0.02, 0.4), (x - 0.02, 0.4)],
            )


def _eyes(canvas: _Canvas, face: Face, dark: Colour) -> None:
    brow = dark if "Bald" in face.has else _shifted(face.hair, np.array([-24, -24, -24]))
    thick = 0.045 if "Bushy_Eyebrows" in face.has else 0.018
    for side, x in (("r", 0.4), ("l", 0.6)):
        canvas.rectangle(f"{side}_brow", brow, (x - 0.065, 0.43 - thick, x + 0.065, 0.43))
        if "Heavy_Makeup" in face.has:
            canvas.ellipse("skin", (96, 44, 120), (x - 0.07, 0.44, x + 0.07, 0.53))
            cheek = 1.15 * x - 0.075  # a little farther out than the eye
            canvas.ellipse("skin", (232, 108, 122), (cheek - 0.06, 0.58, cheek + 0.06, 0.66))
        canvas.ellipse(f"{side}_eye", (250, 250, 250), (x - 0.05, 0.46, x + 0.05, 0.52))
        canvas.ellipse(f"{side}_eye", (30, 40, 60), (x - 0.02, 0.465, x + 0.02, 0.515))
        if "Eyeglasses" in face.has:
            canvas.ring("eye_g", (12, 12, 12), (x - 0.085, 0.42, x + 0.085, 0.56))
    if "Eyeglasses" in face.has:
        canvas.rectangle("eye_g", (12, 12, 12), (0.47, 0.475, 0.53, 0.5))


def _mouth(canvas: _Canvas, face: Face, dark: Colour) -> None:
    """Lips that curve up in a smile, apart where the mouth is open; a moustache belongs
    to the skin, as in the published masks."""
    lips = (200, 20, 52) if "Heavy_Makeup" in face.has else (178, 88, 84)
    lift, gap = (
        (0.06 if "Smiling" in face.has else -0.01),
        (0.035 if "Mouth_Slightly_Open" in face.has else 0.0),
    )
    middle, ends = 0.72, 0.72 - lift
    if "Mustache" in face.has:
        beard = dark if "Bald" in face.has else face.hair
        canvas.polygon(
            "skin", beard, [(0.41, 0.69), (0.46, 0.64), (0.54, 0.64), (0.59, 0.69), (0.5, 0.675)]
        )
    canvas.polygon(
        "l_lip",
        lips,
        [(0.39, ends), (0.5, middle + gap), (0.61, ends), (0.5, middle + gap + 0.035)],
    )
    if gap:
        canvas.polygon(
            "mouth", (70, 10, 20), [(0.4, ends), (0.5, middle), (0.6, ends), (0.5, middle + gap)]
        )
    canvas.polygon(
        "u_lip", lips, [(0.39, ends), (0.5, middle - 0.035), (0.61, ends), (0.5, middle)]
    )


class _Canvas:
    """A photo and the owner of each of its pixels, painted alike; places are in sides
    of the canvas, moved by the face's centre."""

    def __init__(self, size: int, centre: tuple[float, float], back: Colour) -> None:
        self.size, self.centre = size, centre
        self.photo, self.owner = Image.new("RGB", (size, size), back), Image.new("L", (size, size))

    def polygon(self, part: str, colour: Colour, points: Points) -> None:
        for draw, fill in self._both(part, colour):
            draw.polygon(self._at(points), fill=fill)

    def rectangle(self, part: str, colour: Colour, box: tuple[float, float, float, float]) -> None:
        for draw, fill in self._both(part, colour):
            draw.rectangle(self._box(box), fill=fill)

    def ellipse(
        self,
        part: str,
        colour: Colour,
        box: tuple[float, float, float, float],
        start: int = 0,
        end: int = 360,
        chord: bool = False,
    ) -> None:
        for draw, fill in self._both(part, colour):
            (draw.chord if chord else draw.pieslice)(self._box(box), start, end, fill=fill)

    def ring(self, part: str, colour: Colour, box: tuple[float, float, float, float]) -> None:
        for draw, fill in self._both(part, colour):
            draw.ellipse(self._box(box), outline=fill, width=max(1, round(0.02 * self.size)))

    def _both(self, part: str, colour: Colour) -> list[tuple[ImageDraw.ImageDraw, Any]]:
        return [
            (ImageDraw.Draw(self.photo), colour),
            (ImageDraw.Draw(self.owner), PARTS.index(part) + 1),
        ]

    def _at(self, points: Points) -> list[tuple[float, float]]:
        return [
            ((x + self.centre[0]) * self.size, (y + self.centre[1]) * self.size) for x, y in points
        ]

    def _box(self, box: tuple[float, float, float, float]) -> list[tuple[float, float]]:
        return self._at([box[:2], box[2:]])


def _shifted(colour: Colour, by: np.ndarray) -> Colour:
    r, g, b = np.clip(np.array(colour) + by, 0, 255).tolist()
    return r, g, b
