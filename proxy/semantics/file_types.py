"""The extension that a file of a type is saved with. Pure: a table of the project's own, the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

_REMEMBERED: Final = 256


def _by_type(rows: Mapping[str, str]) -> Mapping[str, str]:
    """Turn `extension: type type …` around."""
    return MappingProxyType({name: extension for extension, types in rows.items() for name in types.split()})


_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
_OPEN: Final = "application/vnd.oasis.opendocument"

# Names that phones, carriers and object stores really send stand beside the registered ones (`image/jpg`, `audio/mp3`).
# A type that is a container of anything (`application/octet-stream`) has no extension, nor has a whole family.
_EXTENSIONS: Final = _by_type(
    {
        # pictures
        "jpg": "image/jpeg image/jpg image/pjpeg image/x-jpeg",
        "png": "image/png image/x-png",
        "apng": "image/apng",
        "gif": "image/gif",
        "webp": "image/webp",
        "avif": "image/avif",
        "heic": "image/heic image/heic-sequence",
        "heif": "image/heif image/heif-sequence",
        "tiff": "image/tiff image/tif image/x-tiff",
        "bmp": "image/bmp image/x-bmp image/x-ms-bmp image/x-windows-bmp",
        "svg": "image/svg+xml image/svg",
        "ico": "image/x-icon image/vnd.microsoft.icon",
        "wbmp": "image/vnd.wap.wbmp",
        "jxl": "image/jxl",
        # sound
        "mp3": "audio/mpeg audio/mp3 audio/mpeg3 audio/x-mpeg audio/x-mp3 audio/x-mpeg-3 audio/mpg",
        "m4a": "audio/mp4 audio/m4a audio/x-m4a audio/mp4a-latm",
        "ogg": "audio/ogg audio/x-ogg audio/vorbis application/ogg",
        "opus": "audio/opus",
        "amr": "audio/amr audio/amr-nb audio/x-amr",
        "awb": "audio/amr-wb audio/amr-wb+",
        "aac": "audio/aac audio/aacp audio/x-aac audio/x-hx-aac-adts audio/vnd.dlna.adts",
        "3gp": "audio/3gpp audio/3gp video/3gpp video/3gp",
        "3g2": "audio/3gpp2 video/3gpp2 audio/3g2 video/3g2",
        "wav": "audio/wav audio/x-wav audio/wave audio/vnd.wave audio/x-pn-wav",
        "weba": "audio/webm",
        "flac": "audio/flac audio/x-flac",
        "mid": "audio/midi audio/mid audio/x-midi audio/sp-midi",
        "caf": "audio/x-caf",
        "aiff": "audio/aiff audio/x-aiff",
        "au": "audio/basic",
        "qcp": "audio/qcelp audio/vnd.qcelp audio/evrc",
        "ac3": "audio/ac3",
        "wma": "audio/x-ms-wma",
        # films
        "mp4": "video/mp4 application/mp4",
        "m4v": "video/x-m4v video/m4v",
        "mpeg": "video/mpeg video/mpg video/x-mpeg",
        "mov": "video/quicktime",
        "webm": "video/webm",
        "ogv": "video/ogg",
        "mkv": "video/x-matroska video/matroska",
        "avi": "video/x-msvideo video/avi video/msvideo",
        "wmv": "video/x-ms-wmv",
        "asf": "video/x-ms-asf",
        "flv": "video/x-flv",
        "ts": "video/mp2t",
        # people, days, tickets, places
        "vcf": "text/vcard text/x-vcard text/directory application/vcard text/vcf",
        "ics": "text/calendar application/ics text/x-vcalendar",
        "pkpass": "application/vnd.apple.pkpass application/pkpass",
        "pkpasses": "application/vnd.apple.pkpasses",
        "kml": "application/vnd.google-earth.kml+xml",
        "kmz": "application/vnd.google-earth.kmz",
        "gpx": "application/gpx+xml",
        "usdz": "model/vnd.usdz+zip",
        # documents
        "pdf": "application/pdf application/x-pdf",
        "doc": "application/msword application/vnd.ms-word",
        "xls": "application/vnd.ms-excel application/msexcel application/x-msexcel",
        "ppt": "application/vnd.ms-powerpoint application/mspowerpoint application/powerpoint",
        "docx": f"{_OFFICE}.wordprocessingml.document",
        "dotx": f"{_OFFICE}.wordprocessingml.template",
        "xlsx": f"{_OFFICE}.spreadsheetml.sheet",
        "xltx": f"{_OFFICE}.spreadsheetml.template",
        "pptx": f"{_OFFICE}.presentationml.presentation",
        "ppsx": f"{_OFFICE}.presentationml.slideshow",
        "potx": f"{_OFFICE}.presentationml.template",
        "docm": "application/vnd.ms-word.document.macroenabled.12",
        "xlsm": "application/vnd.ms-excel.sheet.macroenabled.12",
        "xlsb": "application/vnd.ms-excel.sheet.binary.macroenabled.12",
        "pptm": "application/vnd.ms-powerpoint.presentation.macroenabled.12",
        "odt": f"{_OPEN}.text",
        "ods": f"{_OPEN}.spreadsheet",
        "odp": f"{_OPEN}.presentation",
        "odg": f"{_OPEN}.graphics",
        "pages": "application/vnd.apple.pages application/x-iwork-pages-sffpages",
        "numbers": "application/vnd.apple.numbers application/x-iwork-numbers-sffnumbers",
        "key": "application/vnd.apple.keynote application/x-iwork-keynote-sffkey",
        "rtf": "application/rtf text/rtf text/richtext",
        "epub": "application/epub+zip",
        "msg": "application/vnd.ms-outlook",
        "eml": "message/rfc822",
        # text
        "txt": "text/plain",
        "csv": "text/csv text/comma-separated-values application/csv",
        "tsv": "text/tab-separated-values",
        "html": "text/html",
        "xhtml": "application/xhtml+xml",
        "xml": "text/xml application/xml",
        "css": "text/css",
        "js": "text/javascript application/javascript application/x-javascript",
        "json": "application/json text/json",
        "md": "text/markdown",
        "smil": "application/smil application/smil+xml",
        # archives and programs
        "zip": "application/zip application/x-zip-compressed application/x-zip",
        "gz": "application/gzip application/x-gzip",
        "tar": "application/x-tar",
        "7z": "application/x-7z-compressed",
        "rar": "application/vnd.rar application/x-rar-compressed application/x-rar",
        "apk": "application/vnd.android.package-archive",
    }
)


@lru_cache(_REMEMBERED)
def extension(content_type: str) -> str | None:
    """Return a type's extension without its dot, None for a type that has none of its own or is not known.

    `content_type` is a Content-Type's value, whose parameters are left aside: `audio/ogg; codecs=opus` gives `ogg`.
    """
    return _EXTENSIONS.get(content_type.partition(";")[0].strip(" \t").lower())
