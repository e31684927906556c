"""What a file says about itself is read from any bytes, shown safely, and never overstated."""

import hashlib
import io
import json
import random
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import IFDRational

from cifake_lib import metadata as module
from cifake_lib.metadata import CAVEAT, metadata_html, metadata_json, read_metadata
from cifake_lib.metadata_origin import SOURCE_TYPES

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8))
PROMPT = "a red barn in the snow\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"
GRAPH = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 1}}})
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
NAMESPACES = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    'xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
    'xmlns:dcterms="http://purl.org/dc/terms/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/"'
)


def encode(file_format: str, image: Image.Image = PICTURE, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def xmp(attributes: str = "", elements: str = "") -> bytes:
    return (
        f'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF {NAMESPACES}><rdf:Description rdf:about="" {attributes}>{elements}'
        f'</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, behind: bool = False) -> bytes:
    """A PNG with more chunks in it, before or behind the pixels."""
    data = encode("PNG")
    at = data.rindex(b"IEND") - 4 if behind else data.index(b"IDAT") - 4
    return data[:at] + b"".join(chunks) + data[at:]


def png_text(key: str, text: str, kind: str = "tEXt", **options) -> bytes:
    body = {
        "tEXt": key.encode() + b"\0" + text.encode(),
        "zTXt": key.encode() + b"\0\0" + zlib.compress(text.encode()),
        "iTXt": key.encode() + b"\0\0\0\0\0" + text.encode(),
        "iTXt compressed": key.encode() + b"\0\1\0en\0\0" + zlib.compress(text.encode()),
    }[kind]
    return png(chunk(kind[:4].encode(), body), **options)


def jpeg(*segments: tuple[int, bytes], **options) -> bytes:
    """A JPEG with more segments in it."""
    data = encode("JPEG", **options)
    parts = [
        bytes([0xFF, kind]) + struct.pack(">H", len(body) + 2) + body for kind, body in segments
    ]
    return data[:2] + b"".join(parts) + data[2:]


def exif_block(
    main: dict | None = None, exif: dict | None = None, gps: dict | None = None
) -> bytes:
    tags = Image.Exif()
    tags.update(main or {})
    if exif:
        tags.get_ifd(0x8769).update(exif)
    if gps:
        tags.get_ifd(0x8825).update(gps)
    return tags.tobytes()


def facts(data: bytes) -> dict[tuple[str, str], str]:
    """Values by (first word of the group, name)."""
    found = read_metadata(data, name="file").facts
    return {(fact.group.split()[0], fact.name): fact.value for fact in found}


def suggestions(data: bytes) -> dict[str, str]:
    return {
        fact.name: fact.suggests for fact in read_metadata(data, name="file").facts if fact.suggests
    }


FIXTURES = {
    "camera.jpg": encode(
        "JPEG", exif=exif_block({0x010F: "Canon", 0x0131: "Editor 1"}, {0x829A: 0.008}, {1: "N"})
    ),
    "generated.png": png_text("parameters", PROMPT, "zTXt"),
    "graph.webp": encode("WEBP", exif=exif_block({0x010F: f"prompt:{GRAPH}"}), xmp=xmp()),
    "stated.jpg": encode(
        "JPEG", xmp=xmp(f'Iptc4xmpExt:DigitalSourceType="{SOURCE}digitalCapture"')
    ),
    "animated.webp": encode("WEBP", save_all=True, append_images=[PICTURE.rotate(180)]),
    "scan.tif": encode("TIFF", compression="tiff_lzw"),
    "old.gif": encode("GIF", PICTURE.convert("P"), comment=b"made by hand"),
    "plain.bmp": encode("BMP"),
    "small.avif": encode("AVIF"),
}


@pytest.mark.parametrize(
    ("file_format", "mode", "name", "colours"),
    [
        ("JPEG", "RGB", "JPEG", "RGB colour"),
        ("JPEG", "L", "JPEG", "greyscale"),
        ("JPEG", "CMYK", "JPEG", "CMYK colour"),
        ("PNG", "RGBA", "PNG", "RGB colour with transparency"),
        ("PNG", "P", "PNG", "palette"),
        ("WEBP", "RGB", "WebP", "RGB colour"),
        ("WEBP", "RGBA", "WebP", "RGB colour with transparency"),
        ("TIFF", "L", "TIFF", "greyscale"),
        ("GIF", "P", "GIF", "palette"),
        ("BMP", "RGB", "BMP", "RGB colour"),
        ("PPM", "RGB", "PPM", "RGB colour"),
        ("AVIF", "RGB", "AVIF", "RGB colour"),
    ],
)
def test_every_format_tells_what_it_is(file_format, mode, name, colours):
    image = PICTURE.convert(mode)
    if mode == "RGBA":
        image.putalpha(100)
    data = encode(file_format, image)
    found = facts(data)
    assert found["File", "Format"] == name
    assert found["File", "Colours"] == colours
    assert found["File", "Width × height"] == "40 × 24 pixels"
    assert found["File", "Size"] == f"{len(data):,} bytes"
    assert found["File", "SHA-256"] == hashlib.sha256(data).hexdigest()
    assert ("File", "Rest of the file") not in found


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_quality_of_a_standard_jpeg_is_found_exactly(mode):
    image = PICTURE.convert(mode)
    for quality in range(1, 101):
        found = facts(encode("JPEG", image, quality=quality))["Encoder", "Quality"]
        assert found == f"{quality} of 100 (standard quantisation tables)"


def test_the_quality_of_other_tables_is_an_estimate():
    standard = Image.open(io.BytesIO(encode("JPEG", quality=80))).quantization
    tables = [[step + (index % 3) for index, step in enumerate(standard[key])] for key in (0, 1)]
    found = facts(encode("JPEG", qtables=tables))["Encoder", "Quality"]
    estimate = int(re.fullmatch(r"about (\d+) of 100 .*own.*", found)[1])
    assert 74 <= estimate <= 82


def test_the_encoder_of_a_jpeg_is_described():
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        found = facts(encode("JPEG", subsampling=subsampling))
        assert found["Encoder", "Colour resolution"].startswith(subsampling)
        assert found["Encoder", "Kind of JPEG"] == "baseline"
    assert facts(encode("JPEG", progressive=True))["Encoder", "Kind of JPEG"] == "progressive"
    assert ("Encoder", "Colour resolution") not in facts(encode("JPEG", PICTURE.convert("L")))


def test_embedded_thumbnails_are_counted():
    header = struct.pack("<4sIHIHHHII", b"II*\0", 8, 0, 14, 1, 0x0201, 4, 1, 26)
    exif = (0xE1, b"Exif\0\0" + header)
    jfif = (0xE0, b"JFIF\0\1\2\0\0\1\0\1\1\1" + bytes(3))
    photoshop = (0xED, b"Photoshop 3.0\x008BIM\x04\x0c\0\0" + bytes(40))
    assert facts(jpeg())["Encoder", "Embedded thumbnails"] == "0"
    assert facts(jpeg(exif))["Encoder", "Embedded thumbnails"] == "1"
    assert facts(jpeg(exif, jfif, photoshop))["Encoder", "Embedded thumbnails"] == "3"


def test_further_pictures_in_a_jpeg_are_counted():
    data = encode("MPO", save_all=True, append_images=[PICTURE, PICTURE])
    assert facts(data)["Encoder", "Further pictures (MPF)"] == "2"


def test_webp_and_png_tell_how_they_were_encoded():
    assert facts(encode("WEBP"))["Encoder", "Compression"] == "lossy"
    assert facts(encode("WEBP", lossless=True))["Encoder", "Compression"] == "lossless"
    animated = facts(FIXTURES["animated.webp"])
    assert animated["Encoder", "Animated"] == "yes, 2 frames"
    assert animated["Encoder", "Compression"] == "lossy"
    assert facts(encode("PNG"))["Encoder", "Bit depth"] == "8 bits per sample"
    deep = Image.fromarray(np.zeros((4, 4), dtype=np.uint16))
    assert facts(encode("PNG", deep))["Encoder", "Bit depth"] == "16 bits per sample"
    interlaced = bytearray(encode("PNG"))
    interlaced[28] = 1
    assert facts(bytes(interlaced))["Encoder", "Interlaced"] == "yes (Adam7)"


def test_exif_is_readable():
    block = exif_block(
        {0x010F: "Canon", 0x0110: "Canon EOS R5", 0x0131: "Lightroom 7"},
        {
            0xA434: "RF 50mm F1.8",
            0x9003: "2024:05:01 12:30:00",
            0x829A: IFDRational(1, 125),
            0x829D: 1.8,
            0x8827: 200,
            0x920A: 50.0,
            0x927C: bytes(range(256)) * 100,
            0xA002: 6000,
        },
        {1: "S", 2: (33.0, 51.0, 24.84), 3: "E", 4: (151.0, 12.0, 33.48)},
    )
    for data in (encode("JPEG", exif=block), encode("PNG", exif=block), encode("WEBP", exif=block)):
        found = facts(data)
        assert found["Camera", "Camera make"] == "Canon"
        assert found["Camera", "Camera model"] == "Canon EOS R5"
        assert found["Camera", "Lens"] == "RF 50mm F1.8"
        assert found["Camera", "Taken on"] == "2024:05:01 12:30:00"
        assert found["Camera", "Exposure time"] == "1/125 s"
        assert found["Camera", "Aperture"] == "f/1.8"
        assert found["Camera", "ISO speed"] == "200"
        assert found["Camera", "Focal length"] == "50 mm"
        assert found["Camera", "Place (GPS)"] == "33.85690° S, 151.20930° E"
        assert found["Camera", "Maker note"] == "binary, 20,000 bytes or more"
        assert found["Camera", "Exif image width"] == "6000"
        assert found["Software", "Software (EXIF)"] == "Lightroom 7"
        assert not suggestions(data)


@pytest.mark.parametrize("exposure", [5e-324, 0.0, -1.0, float("nan"), float("inf"), 2.0])
def test_impossible_exposures_are_shown_as_they_are(exposure):
    data = encode("JPEG", exif=exif_block(exif={0x829A: exposure, 0x829D: IFDRational(1, 0)}))
    assert facts(data)["Camera", "Exposure time"] == f"{exposure:.6g} s"
    assert facts(data)["Camera", "Aperture"] == "f/undefined"


def test_a_camera_without_a_place_says_so():
    assert (
        facts(encode("JPEG", exif=exif_block({0x010F: "Canon"})))["Camera", "Place (GPS)"] == "none"
    )
    data = encode("JPEG", exif=exif_block(gps={1: "N", 2: (0.0, 0.0), 4: (500.0, 0.0, 0.0)}))
    assert "without usable coordinates" in facts(data)["Camera", "Place (GPS)"]
    assert facts(encode("JPEG"))["Camera", "EXIF"] == "none"


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "iTXt compressed"])
@pytest.mark.parametrize("behind", [False, True])
def test_generator_parameters_are_found_in_every_kind_of_png_text(kind, behind):
    data = png_text("parameters", PROMPT, kind, behind=behind)
    (name,) = suggestions(data)
    assert name.startswith("AUTOMATIC1111")
    assert suggestions(data)[name] == "FAKE"
    assert "a red barn in the snow" in facts(data)["Generator", name]


@pytest.mark.parametrize(
    ("key", "text", "tool"),
    [
        ("prompt", GRAPH, "ComfyUI"),
        ("workflow", '{"last_node_id": 9, "nodes": []}', "ComfyUI"),
        ("sd-metadata", '{"model": "stable diffusion"}', "InvokeAI"),
        ("Dream", "a barn -s50 -W512", "InvokeAI"),
        ("invokeai_metadata", "{}", "InvokeAI"),
        ("Comment", '{"steps": 28, "sampler": "k_euler", "uc": "blurry"}', "NovelAI"),
        ("Description", "a barn --v 6 Job ID: 0a1b2c3d-0000-0000-0000-000000000000", "Midjourney"),
        ("parameters", '{"sui_image_params": {"prompt": "a barn"}}', "SwarmUI"),
        ("parameters", '{"metadata_scheme": "fooocus"}', "Fooocus"),
    ],
)
def test_generators_are_told_apart(key, text, tool):
    ((name, suggests),) = suggestions(png_text(key, text)).items()
    assert name == f"{tool}, in “{key}”"
    assert suggests == "FAKE"


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
@pytest.mark.parametrize("code", ["ascii", "utf-16-be", "utf-16-le"])
def test_generator_parameters_are_found_in_the_user_comment(file_format, code):
    prefix = b"ASCII\0\0\0" if code == "ascii" else b"UNICODE\0"
    data = encode(file_format, exif=exif_block(exif={0x9286: prefix + PROMPT.encode(code)}))
    (name,) = suggestions(data)
    assert name.startswith("AUTOMATIC1111")
    assert facts(data)["Generator", name].startswith("a red barn in the snow")


def test_comfyui_is_found_where_a_camera_would_stand():
    found = facts(FIXTURES["graph.webp"])
    assert "KSampler" in found["Generator", "ComfyUI, in “Make”"]
    assert ("Camera", "Camera make") not in found


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("Title", "My barn"),
        ("parameters", "none"),
        ("prompt", "an ordinary word"),
        ("Comment", "Created with GIMP"),
        ("Software", "Adobe Photoshop 25.0"),
        ("Description", "The imagen of a barn"),
    ],
)
def test_ordinary_text_suggests_nothing(key, text):
    data = png_text(key, text)
    assert not suggestions(data)
    assert text in facts(data).values()
    assert "does not say" in read_metadata(data, name="file").summary


def test_software_is_named_wherever_it_stands():
    data = encode("JPEG", comment=b"CREATOR: gd-jpeg v1.0", xmp=xmp('xmp:CreatorTool="Editor 9"'))
    found = facts(data)
    assert found["Software", "JPEG comment"] == "CREATOR: gd-jpeg v1.0"
    assert found["Software", "Creator tool (XMP)"] == "Editor 9"
    assert facts(FIXTURES["old.gif"])["Software", "Comment"] == "made by hand"
    credit = encode("JPEG", xmp=xmp('photoshop:Credit="Made with Google AI"'))
    assert suggestions(credit) == {"Credit line (XMP)": "FAKE"}
    assert suggestions(png_text("Software", "NovelAI")) == {"Software": "FAKE"}


@pytest.mark.parametrize("code", SOURCE_TYPES)
def test_every_source_type_is_explained(code):
    data = png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _stated(code)))
    meaning, suggests = SOURCE_TYPES[code]
    assert facts(data)["Statement", "Digital source type"] == f"{code}: {meaning}"
    assert suggestions(data) == ({"Digital source type": suggests} if suggests else {})


def _stated(code):
    return xmp(f'Iptc4xmpExt:DigitalSourceType="{SOURCE}{code}"')


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_source_type_is_found_in_every_format(file_format):
    packet = _stated("trainedAlgorithmicMedia") + b" " * 30_000
    options = {"tiffinfo": {700: packet}} if file_format == "TIFF" else {"xmp": packet}
    data = encode(file_format, **options)
    if file_format == "PNG":
        data = png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
    assert suggestions(data) == {"Digital source type": "FAKE"}
    assert "says FAKE: Digital source type" in read_metadata(data, name="file").summary


@pytest.mark.parametrize(
    "elements",
    [
        "<Iptc4xmpExt:DigitalSourceType>{}</Iptc4xmpExt:DigitalSourceType>",
        '<Iptc4xmpExt:DigitalSourceType rdf:resource="{}"/>',
        "<Iptc4xmpExt:DigitalSourceType><rdf:Bag><rdf:li>{}</rdf:li></rdf:Bag>"
        "</Iptc4xmpExt:DigitalSourceType>",
    ],
)
@pytest.mark.parametrize("uri", [SOURCE, SOURCE.replace("http:", "https:"), "digsrctype:"])
def test_xmp_may_state_the_source_in_any_of_its_forms(elements, uri):
    packet = xmp(elements=elements.format(f"{uri}digitalCapture"))
    assert suggestions(encode("JPEG", xmp=packet)) == {"Digital source type": "REAL"}


def test_a_foreign_source_type_suggests_nothing():
    for uri in ("http://example.org/trainedAlgorithmicMedia", f"{SOURCE}other", "x" * 5000):
        data = encode("JPEG", xmp=xmp(f'Iptc4xmpExt:DigitalSourceType="{uri}"'))
        assert not suggestions(data)
        assert "not in the list" in facts(data)["Statement", "Digital source type"]


def test_ai_fields_and_the_chinese_label_are_statements():
    data = encode("JPEG", xmp=xmp('Iptc4xmpExt:AISystemUsed="Example model"'))
    assert suggestions(data) == {"AI system used": "FAKE"}
    label = '{"Label":"1","ContentProducer":"someone"}'
    element = f"<TC260:AIGC>{label.replace(chr(34), '&quot;')}</TC260:AIGC>"
    name = "Label of AI content (GB 45438-2025)"
    assert suggestions(encode("JPEG", xmp=xmp(elements=element))) == {name: "FAKE"}
    assert suggestions(png_text("AIGC", label)) == {name: "FAKE"}
    assert not suggestions(png_text("AIGC", label.replace('"1"', '"3"')))


def test_opposite_statements_are_called_a_contradiction():
    body = b"XML:com.adobe.xmp\0\0\0\0\0" + _stated("digitalCapture")
    data = png(chunk(b"iTXt", body), chunk(b"tEXt", b"parameters\0" + PROMPT.encode()))
    assert "contradicts itself" in read_metadata(data, name="file").summary


def test_xmp_cannot_define_entities():
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'
    for packet in (bomb, b"<not xml", b"\xff\xfe\x00"):
        data = encode("JPEG", xmp=packet)
        assert facts(data)["Statement", "XMP"] == "unreadable"
        assert facts(data)["File", "Format"] == "JPEG"


def test_nothing_decodes_a_pixel(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    monkeypatch.setattr(Image.Image, "load", refuse)
    for name, data in FIXTURES.items():
        assert facts(data)["File", "Width × height"] == "40 × 24 pixels", name


def _directory(entries: int, size: int) -> bytes:
    """A TIFF header whose many tags all point at the same long value."""
    start = 10 + 12 * entries + 4
    tags = (struct.pack("<HHII", i, 2, size, start) for i in range(entries))
    head = b"II*\0" + struct.pack("<IH", 8, entries)
    return head + b"".join(tags) + bytes(4) + b"A" * size


def _repeated(body: bytes, count: int) -> bytes:
    return png(*[chunk(b"zTXt", body)] * count)


BOMBS = {
    "compressed text": lambda: png_text("parameters", "a" * 2**25, "zTXt"),
    "many compressed texts": lambda: _repeated(b"k\0\0" + zlib.compress(bytes(2**23)), 2500),
    "nested properties": lambda: encode(
        "WEBP",
        xmp=xmp(
            elements="<Iptc4xmpExt:AISystemUsed>" * 16_000 + "</Iptc4xmpExt:AISystemUsed>" * 16_000
        ),
    ),
    "tags of one value": lambda: _directory(60_000, 2**22),
    "tiny chunks": lambda: png(*[chunk(b"IDAT", b"")] * 500_000),
    "tiny WebP chunks": lambda: b"RIFF\0\0\0\0WEBP" + b"ANMF\0\0\0\0" * 3_000_000,
    "fill bytes": lambda: b"\xff\xd8" + b"\xff" * (29 * 2**20),
    "long EXIF": lambda: jpeg(*[(0xE1, b"Exif\0\0" + bytes(65_000))] * 450),
    "many EXIF segments": lambda: jpeg(*[(0xE1, b"Exif\0\0" + bytes(2000))] * 14_000),
    "many picture lists": lambda: jpeg(*[(0xE2, b"MPF\0" + _directory(2000, 30_000))] * 400),
    "a long comment": lambda: jpeg(*[(0xFE, b"Steps: 1" * 8000)] * 400),
}


@pytest.mark.parametrize("name", BOMBS)
def test_hostile_files_cost_little_time_and_memory(name):
    data = BOMBS[name]()
    assert len(data) <= module.MAX_BYTES
    read_metadata(encode("PNG"), name="warm")
    started = time.process_time()
    found = read_metadata(data, name=name)
    assert time.process_time() - started < 2
    tracemalloc.start()
    try:
        read_metadata(data, name=name)
        assert tracemalloc.get_traced_memory()[1] < 120 * 2**20
    finally:
        tracemalloc.stop()
    assert sum(len(fact.name) + len(fact.value) for fact in found.facts) < 400_000


def test_a_file_that_is_too_large_is_only_measured(monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    data = encode("PNG")
    found = facts(data)
    assert set(found) == {("File", name) for name in ("Size", "SHA-256", "Content")}
    assert found["File", "SHA-256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", FIXTURES)
def test_a_file_cut_off_anywhere_is_read_as_far_as_it_goes(name):
    data = FIXTURES[name]
    for length in range(0, len(data), max(1, len(data) // 150)):
        found = facts(data[:length])
        assert found["File", "Size"] == f"{length:,} bytes"


@pytest.mark.parametrize("name", FIXTURES)
def test_damaged_bytes_never_raise(name):
    draw = random.Random(name)
    for _ in range(60):
        data = bytearray(FIXTURES[name])
        for _ in range(draw.randint(1, 12)):
            data[draw.randrange(len(data))] = draw.choice([0, 1, 255, draw.randrange(256)])
        page = metadata_html(read_metadata(bytes(data), name=name))
        page.encode("utf-8")
        assert "SHA-256" in page and page.count("<table") == page.count("</table>") == 1


def test_damage_is_named_and_the_rest_is_kept():
    data = png_text("parameters", PROMPT)
    cut = data[: data.index(b"IDAT") + 20]
    assert facts(cut)["File", "Rest of the file"] == "unreadable"
    assert facts(cut)["File", "Width × height"] == "40 × 24 pixels"
    assert any(name.startswith("AUTOMATIC1111") for name in suggestions(cut))
    broken = png(chunk(b"zTXt", b"parameters\0\0" + b"not deflate"))
    assert "unreadable" in facts(broken)["Other", "parameters"]
    assert facts(b"")["File", "Format"] == "not recognised"
    assert facts(b"hello, world")["File", "Format"] == "not recognised"


def test_everything_on_the_page_is_escaped():
    evil = "<script>alert(1)</script>"
    data = png(
        chunk(b"tEXt", evil.encode()[:70] + b"\0" + evil.encode()),
        chunk(b"tEXt", b"parameters\0" + evil.encode() * 40 + PROMPT.encode()),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp('xmp:CreatorTool="&lt;img src=x&gt;"')),
    )
    page = metadata_html(read_metadata(data, name=f'"{evil}.png'))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;img src=x&gt;" in page


def test_the_page_is_an_accessible_table():
    page = metadata_html(read_metadata(png_text("parameters", PROMPT * 20), name="barn.png"))
    assert '<table class="cf-table cf-left' in page
    assert "<caption>Metadata of barn.png</caption>" in page
    assert '<th scope="row">SHA-256</th>' in page
    assert '<th scope="rowgroup" colspan="2">Generator</th>' in page
    assert '<b class="cf-FAKE">says FAKE</b> <details><summary>a red barn' in page
    assert CAVEAT in page
    for tag in ("table", "tbody", "tr", "td", "th", "details", "summary", "pre", "div", "p"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>")


def test_long_values_are_cut_and_say_so():
    data = png_text("parameters", PROMPT + "x" * 50_000)
    (name,) = suggestions(data)
    value = facts(data)["Generator", name]
    assert len(value) < 2100
    assert value.endswith(f"({len(PROMPT) + 50_000:,} characters in all)")


def test_invisible_characters_cannot_disguise_a_value():
    found = facts(png_text("Title", "photo\u202egnp.exe\ud7ff\x1b[31m\x00\u200b"))
    value = found["Other", "Title"]
    assert "photo" in value
    assert value.isprintable()


def test_the_record_is_plain_data():
    metadata = read_metadata(FIXTURES["generated.png"], name="barn\udcff.png")
    record = json.loads(json.dumps(metadata_json(metadata), ensure_ascii=False).encode())
    assert record["caveat"] == CAVEAT
    assert "absence proves nothing" in CAVEAT
    assert "forged" in CAVEAT
    assert {"group", "name", "value", "suggests"} == set(record["facts"][0])
    assert [fact["suggests"] for fact in record["facts"]].count("FAKE") == 1


def test_importing_it_is_light():
    heavy = {"keras", "tensorflow", "matplotlib", "pandas", "sklearn", "c2pa"}
    code = f"import sys, cifake_lib.metadata; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
