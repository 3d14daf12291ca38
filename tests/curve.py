"""The curve of Ed25519 by the book (RFC 8032 section 5.1), to find the points a verifier refuses."""

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SIGN_BIT = 1 << 255

Point = tuple[int, int]
NEUTRAL: Point = (0, 1)


def add(one: Point, two: Point) -> Point:
    """Add two points in affine coordinates."""
    (x1, y1), (x2, y2) = one, two
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return x, y


def multiply(scalar: int, point: Point) -> Point:
    """Add a point to itself so many times."""
    total = NEUTRAL
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point, scalar = add(point, point), scalar >> 1
    return total


def x_of(y: int) -> int | None:
    """Find an x coordinate to a y, None when the curve has no such point."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return x if x * x % P == square else None


def small_order_points() -> set[Point]:
    """Compute the eight points whose order divides 8."""
    for y in range(2, 100):
        x = x_of(y)
        if x is None:
            continue
        torsion = multiply(L, (x, y))
        if multiply(4, torsion) != NEUTRAL:
            return {multiply(n, torsion) for n in range(8)}
    raise AssertionError("every eighth point or so has a part of order 8")


def encodings(point: Point) -> list[bytes]:
    """Write a point in every way a lenient reader accepts: y or y + p, and either sign where x is 0."""
    x, y = point
    signs = {0, SIGN_BIT} if x == 0 else {SIGN_BIT * (x & 1)}
    ys = [value for value in (y, y + P) if value < SIGN_BIT]
    return [(value | sign).to_bytes(32, "little") for value in ys for sign in signs]
