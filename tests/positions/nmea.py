"""A receiver's log in NMEA 0183, for gpsfake: a vehicle that stands somewhere, or has no sight of the sky."""

from __future__ import annotations


def standing(latitude: float, longitude: float, *, seconds: int = 60, sees: bool = True) -> bytes:
    """One epoch a second from 10:00:00. GSA tells the geometry, GST the errors, from which gpsd makes its own."""
    lines: list[str] = []
    where = f"{degrees(latitude, 2)},{'NS'[latitude < 0]},{degrees(longitude, 3)},{'EW'[longitude < 0]}"
    for second in range(seconds):
        time = f"10{second // 60:02}{second % 60:02}.00"
        lines += [
            f"GPGGA,{time},{where},1,08,1.0,40.0,M,46.9,M,," if sees else f"GPGGA,{time},,,,,0,00,,,M,,M,,",
            "GPGSA,A,3,01,02,03,04,05,06,07,08,,,,,1.8,1.0,1.5" if sees else "GPGSA,A,1,,,,,,,,,,,,,,,",
            f"GPGST,{time},5.0,4.0,3.0,45.0,3.0,4.0,6.0" if sees else f"GPGST,{time},,,,,,,",
            f"GPRMC,{time},A,{where},0.0,0.0,221126,,,A" if sees else f"GPRMC,{time},V,,,,,,,221126,,,N",
        ]
    return "".join(f"${line}*{checksum(line):02X}\r\n" for line in lines).encode()


def degrees(value: float, digits: int) -> str:
    whole = int(abs(value))
    return f"{whole:0{digits}}{(abs(value) - whole) * 60:08.5f}"


def checksum(line: str) -> int:
    found = 0
    for each in line.encode():
        found ^= each
    return found
