"""The two bulk endpoints of a USB device, held by one process. The only place that knows libusb. No protocol.

A device that the kernel or another program holds is not taken away from it: the refusal names who may have it.
Belongs to one thread.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any, Protocol

from drivers.serial_port import PortFailed

READ_BYTES = 300  # the longest frame of a PN533 is 275
INTERFACE = 0
PORT = re.compile(r"usb:(?P<vendor>[0-9a-f]{4}):(?P<product>[0-9a-f]{4})(:(?P<serial>[A-Za-z0-9._-]{1,64}))?")
IDS = re.compile(r"([0-9a-f]{4}):([0-9a-f]{4})")


class UsbPipe(Protocol):
    path: str

    def write(self, raw: bytes) -> None: ...

    def read(self, at_most_s: float) -> bytes:
        """What the device sends next; empty when the time is over. PortFailed when it has gone."""

    def close(self) -> None: ...


def open_usb_pipe(port: str, ids: tuple[str, ...]) -> UsbPipe:
    """`port` is usb:VENDOR:PRODUCT or usb:VENDOR:PRODUCT:SERIAL; empty: the one device with one of these ids."""
    if not port:
        return _Bulk("usb", [found.groups() for each in ids if (found := IDS.fullmatch(each))], None)
    if (named := PORT.fullmatch(port)) is None:
        raise PortFailed(f"{port} names no USB device", hint="write usb:04e6:5591, or leave the port empty")
    return _Bulk(port, [(named["vendor"], named["product"])], named["serial"])


class _Bulk:
    def __init__(self, path: str, ids: list[Any], serial: str | None) -> None:
        import usb1

        self.path = path
        self._errors = usb1
        self._context = usb1.USBContext()
        try:
            self._context.open()
            self._device = self._opened(ids, serial)
        except usb1.USBError as error:
            self.close()
            raise PortFailed(f"{path} cannot be opened: {error}", hint="check the cable") from error
        except PortFailed:
            self.close()
            raise

    def _opened(self, ids: list[Any], serial: str | None) -> Any:
        wanted = {(int(vendor, 16), int(product, 16)) for vendor, product in ids}
        found = [
            device
            for device in self._context.getDeviceIterator(skip_on_error=True)
            if (device.getVendorID(), device.getProductID()) in wanted
        ]
        if serial is not None:
            found = [device for device in found if _serial_of(device) == serial]
        if not found:
            raise PortFailed(f"{self.path} is not there", hint="check the cable; `roamkey doctor` lists what is")
        if len(found) > 1:
            raise PortFailed(
                f"{self.path} could be {len(found)} devices", hint="add the serial number: usb:VENDOR:PRODUCT:SERIAL"
            )
        usb1 = self._errors
        try:
            handle = found[0].open()
            handle.claimInterface(INTERFACE)
        except usb1.USBErrorAccess as error:
            raise PortFailed(
                f"{self.path} may not be opened by this user", hint="install the udev rules that come with roamkey"
            ) from error
        except usb1.USBErrorBusy as error:
            raise PortFailed(
                f"{self.path} is in use by another program or a kernel module",
                hint="stop the other program; `roamkey doctor` names the modules that are in the way",
            ) from error
        self._in, self._out = _bulk_endpoints(usb1, found[0])
        return handle

    def write(self, raw: bytes) -> None:
        try:
            self._device.bulkWrite(self._out, raw, timeout=1_000)
        except self._errors.USBError as error:
            raise self._gone() from error

    def read(self, at_most_s: float) -> bytes:
        try:
            return bytes(self._device.bulkRead(self._in, READ_BYTES, timeout=max(1, round(at_most_s * 1_000))))
        except self._errors.USBErrorTimeout:
            return b""
        except self._errors.USBError as error:
            raise self._gone() from error

    def close(self) -> None:
        with contextlib.suppress(self._errors.USBError):
            if getattr(self, "_device", None) is not None:
                self._device.close()
            self._context.close()

    def _gone(self) -> PortFailed:
        return PortFailed(f"{self.path} has gone", hint="check the cable")


def _bulk_endpoints(usb1: Any, device: Any) -> tuple[int, int]:
    addresses = [
        endpoint.getAddress()
        for endpoint in next(device.iterSettings()).iterEndpoints()
        if endpoint.getAttributes() & usb1.TRANSFER_TYPE_MASK == usb1.TRANSFER_TYPE_BULK
    ]
    incoming = [each for each in addresses if each & usb1.ENDPOINT_DIR_MASK]
    outgoing = [each for each in addresses if not each & usb1.ENDPOINT_DIR_MASK]
    if not incoming or not outgoing:
        raise PortFailed("the USB device has no bulk endpoints", hint="choose the profile that fits the reader")
    return incoming[0], outgoing[0]


def _serial_of(device: Any) -> str | None:
    try:
        serial: str | None = device.getSerialNumber()
    except Exception:  # noqa: BLE001 - a device that is not ours and does not answer; libusb raises many kinds
        return None
    return serial
