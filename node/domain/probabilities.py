"""Probabilities in words: a value that is neither 0 nor 1 is never rounded to certainty."""


def probability_text(value: float, digits: int = 2) -> str:
    """Return a probability with so many digits; `> 0.99` or `< 0.01` where rounding would reach 1 or 0."""
    text = f"{value:.{digits}f}"
    step = 10.0**-digits
    if value < 1 and float(text) >= 1:
        return f"> {1 - step:.{digits}f}"
    return f"< {step:.{digits}f}" if value > 0 and float(text) == 0 else text


def score_text(value: float) -> str:
    """Return a score: a share with four digits; what is above 1, such as a volume in mm3, with one."""
    return probability_text(value, 4) if abs(value) <= 1 else f"{value:.1f}"
