"""Format numbers so that sentences and tables about them are true of the digits shown.

Two numbers that are compared for their own sake, such as the PSNR of two methods, are rounded
first and compared as they are shown: a difference that the digits do not show is none. A number
that a bound decides on is compared exactly, and shown with as many digits as tell the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass

# More decimal digits tell no two float64 apart.
_ALL_DIGITS = 17


def rounded(value: float, digits: int) -> float:
    """Round to so many decimal places, as `decimals` shows it, and never to minus zero."""
    return float(f"{value:.{digits}f}") + 0.0


def decimals(value: float, digits: int, *, signed: bool = False) -> str:
    """Format a number with so many decimal places.

    Args:
      value: the number.
      digits: places.
      signed: write + before positive numbers; zero, which may be a small number of either sign,
        never has a sign.
    """
    shown = rounded(value, digits)
    return f"{shown:{'+' if signed and shown != 0 else ''}.{digits}f}"


def degrees(yaw: float) -> str:
    """Format a yaw in whole degrees, with its sign."""
    return f"{decimals(yaw, 0, signed=True)}°"


@dataclass(frozen=True)
class Change:
    """A measure before and after, compared by the digits shown.

    Attributes:
      before, after: the measure.
      digits: decimal places shown.
      higher_is_better: whether a rise is a gain.
    """

    before: float
    after: float
    digits: int
    higher_is_better: bool

    @property
    def old(self) -> str:
        """The measure before, as text."""
        return decimals(self.before, self.digits)

    @property
    def new(self) -> str:
        """The measure after, as text."""
        return decimals(self.after, self.digits)

    @property
    def rise(self) -> float:
        """Difference of the numbers shown, `new` less `old`."""
        before, after = (rounded(value, self.digits) for value in (self.before, self.after))
        return 0.0 if before == after else rounded(after - before, self.digits)  # both may be inf

    @property
    def better(self) -> bool:
        """Whether the numbers shown are a gain."""
        return self.rise > 0 if self.higher_is_better else self.rise < 0


def beside(value: float, bound: float, digits: int, style: str = "g") -> tuple[str, str]:
    """Format a number and its bound with enough digits to show which is larger.

    Args:
      value: the number.
      bound: what it is compared with.
      digits: fewest digits of both.
      style: of the digits: 'g' significant ones, 'f' decimal places, 'e' of a power of ten.
    """

    def order(a: float, b: float) -> tuple[bool, bool]:
        return a < b, a > b

    for places in range(digits, _ALL_DIGITS):
        texts = f"{value:.{places}{style}}", f"{bound:.{places}{style}}"
        if order(float(texts[0]), float(texts[1])) == order(value, bound):
            return texts
    return repr(value), repr(bound)
