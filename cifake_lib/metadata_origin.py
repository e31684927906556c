"""How a file says its picture was made: IPTC's source types, XMP, the parameters of generators."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice

from defusedxml import ElementTree

from cifake_lib.metadata_facts import (
    CREDENTIALS,
    GENERATOR,
    ORIGIN,
    SOFTWARE,
    TEXTS,
    Fact,
    readable,
)

MAX_REPEATS = 5  # an editing history can name the same program a thousand times

# Source: IPTC NewsCodes, scheme digitalsourcetype (2024-10-23); the last two are C2PA's own.
SOURCE_TYPES = {
    "digitalCapture": ("captured from real life with a digital camera", "REAL"),
    "computationalCapture": (
        "captured from real life, several frames merged without generative AI",
        "REAL",
    ),
    "negativeFilm": ("digitised from a negative on film", "REAL"),
    "positiveFilm": ("digitised from a positive on film", "REAL"),
    "compositeCapture": ("put together from pictures captured from real life", "REAL"),
    "trainedAlgorithmicMedia": ("created by generative AI", "FAKE"),
    "compositeWithTrainedAlgorithmicMedia": ("edited with generative AI", "FAKE"),
    "compositeSynthetic": ("put together, with elements from generative AI", "FAKE"),
    "print": ("digitised from a print", ""),
    "humanEdits": ("edited by people without generative AI", ""),
    "minorHumanEdits": ("an original with minor edits by people", ""),
    "algorithmicallyEnhanced": ("altered by an algorithm, not by generative AI", ""),
    "algorithmicMedia": ("created by an algorithm that learnt from no samples", ""),
    "digitalCreation": ("created by a person with tools other than generative AI", ""),
    "digitalArt": ("created by a person with digital tools", ""),
    "softwareImage": ("created by software", ""),
    "dataDrivenMedia": ("drawn from data, such as a chart", ""),
    "screenCapture": ("a capture of a screen", ""),
    "virtualRecording": ("a recording of a virtual event, in which generative AI may appear", ""),
    "composite": ("put together from elements that may or may not be from generative AI", ""),
    "trainedAlgorithmicData": ("data created by a trained model", "FAKE"),
    "empty": ("created from an empty canvas", ""),
}
_SOURCE_TYPE = re.compile(
    r"(?:https?://(?:cv\.iptc\.org/newscodes|c2pa\.org)/digitalsourcetype/|digsrctype:)?(\w+)/?"
)

# Only names that mean nothing but a generator of pictures.
_GENERATOR_NAMES = re.compile(
    r"\b(?:NovelAI|Midjourney|Stable ?Diffusion|DALL[·. -]?E|Adobe Firefly|InvokeAI|ComfyUI|Fooocus"
    r"|Draw Things|AUTOMATIC1111|(?:Made|Created|Edited) with Google AI)\b",
    re.IGNORECASE,
)

_EXT = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_SOURCE_TYPE_PROPERTY = f"{_EXT}DigitalSourceType"
_LABEL_PROPERTY = "{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC"
_PROPERTIES = {
    _SOURCE_TYPE_PROPERTY: (ORIGIN, "Digital source type", ""),
    f"{_EXT}AISystemUsed": (ORIGIN, "AI system used", "FAKE"),
    f"{_EXT}AISystemVersionUsed": (ORIGIN, "Version of the AI system", "FAKE"),
    f"{_EXT}AIPromptInformation": (ORIGIN, "Prompt given to the AI system", "FAKE"),
    _LABEL_PROPERTY: (ORIGIN, "", ""),
    "{http://ns.adobe.com/xap/1.0/}CreatorTool": (SOFTWARE, "Creator tool (XMP)", ""),
    "{http://ns.adobe.com/photoshop/1.0/}Credit": (SOFTWARE, "Credit line (XMP)", ""),
    "{http://ns.adobe.com/xap/1.0/sType/ResourceEvent#}softwareAgent": (
        SOFTWARE,
        "Editing history (XMP)",
        "",
    ),
    "{http://purl.org/dc/terms/}provenance": (CREDENTIALS, "Manifest kept elsewhere", ""),
}


@dataclass(frozen=True)
class Generator:
    """Where a generator of pictures leaves its parameters.

    Attributes:
        tool: Name for a reader.
        keys: Keys of PNG text blocks, or names of EXIF tags.
        pattern: What the text must hold; "" takes any.
    """

    tool: str
    keys: frozenset[str]
    pattern: str = ""


def _generator(tool: str, keys: str, pattern: str = "") -> Generator:
    return Generator(tool, frozenset(keys.split()), pattern)


# The first that fits is named. ComfyUI writes WebP files with its graph in the camera's name.
GENERATORS = (
    _generator("Fooocus", "parameters UserComment", r'"metadata_scheme"\s*:\s*"fooocus|Fooocus v'),
    _generator("SwarmUI", "parameters UserComment", r'"sui_image_params"\s*:'),
    _generator(
        "AUTOMATIC1111 web UI or a relative (Forge, SD.Next)",
        "parameters UserComment",
        r"\bSteps: \d+, ",
    ),
    _generator(
        "ComfyUI", "prompt UserComment Make Model ImageDescription", r'"class_type"\s*:\s*"'
    ),
    _generator(
        "ComfyUI",
        "workflow UserComment Make Model ImageDescription",
        r'"(?:last_node_id|nodes)"\s*:',
    ),
    _generator("InvokeAI", "invokeai_metadata invokeai_graph invokeai_workflow sd-metadata Dream"),
    _generator("NovelAI", "Comment", r'"(?:uc|request_type|signed_hash)"\s*:'),
    _generator("NovelAI", "UserComment", r'"(?:request_type|signed_hash)"\s*:'),
    _generator("Midjourney", "Description ImageDescription", r"\bJob ID: [0-9a-f]{8}-"),
    _generator("Easy Diffusion", "use_stable_diffusion_model"),
)


def source_type_fact(uri: str, *, group: str = ORIGIN, counts: bool = True) -> Fact:
    """Explain a digital source type.

    Args:
        uri: As the file gives it, such as
            "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture".
        group: Group of the fact.
        counts: Whether the fact may suggest a class.

    Returns:
        The code with its meaning; a word outside the list is shown as it is.
    """
    match = _SOURCE_TYPE.fullmatch(uri.strip()[:200])
    if match is None or match[1] not in SOURCE_TYPES:
        return Fact(group, "Digital source type", f"{readable(uri)}: not in the list of the IPTC")
    meaning, suggests = SOURCE_TYPES[match[1]]
    value = f"{match[1]}: {meaning}"
    return Fact(group, "Digital source type", value, suggests if counts else "")


def software_fact(name: str, value: str) -> Fact:
    """Note a program; one that does nothing but generate pictures suggests FAKE."""
    suggests = "FAKE" if _GENERATOR_NAMES.search(value[:1000]) else ""
    return Fact(SOFTWARE, name, readable(value), suggests)


def xmp_facts(packet: bytes) -> list[Fact]:
    """Read what an XMP packet says about origin and software.

    Source: ISO 16684-1 (XMP), which allows a property as attribute, element or list; IPTC Photo
    Metadata Standard 2025.1; GB 45438-2025 for the label that services in China attach.

    Args:
        packet: The packet, of bounded length.

    Returns:
        Facts; each value once, at most `MAX_REPEATS` of a property.

    Raises:
        xml.etree.ElementTree.ParseError: The packet is no XML.
        defusedxml.DefusedXmlException: It defines entities or a document type.
    """
    values: dict[str, list[str]] = {}
    root = ElementTree.fromstring(packet.strip(b"\0 \r\n\t"), forbid_dtd=True)
    for element in root.iter():
        found = [pair for pair in element.attrib.items() if pair[0] in _PROPERTIES]
        if element.tag in _PROPERTIES:
            # The text of the property itself, or of the few entries of its list.
            words = [part.text or "" for part in islice(element.iter(), 3 * MAX_REPEATS)]
            words.append(element.get(f"{_RDF}resource", ""))
            found += [(element.tag, word) for word in words]
        for name, value in found:
            kept = values.setdefault(name, [])
            if value.strip() and value not in kept and len(kept) < MAX_REPEATS:
                kept.append(value.strip())
    return [_xmp_fact(name, value) for name in _PROPERTIES for value in values.get(name, [])]


def _xmp_fact(key: str, value: str) -> Fact:
    group, name, suggests = _PROPERTIES[key]
    if key == _SOURCE_TYPE_PROPERTY:
        return source_type_fact(value)
    if key == _LABEL_PROPERTY:
        return label_fact(value)
    if group == SOFTWARE:
        return software_fact(name, value)
    if group == CREDENTIALS:
        return Fact(group, name, f"{readable(value)} (not fetched: nothing here uses the network)")
    return Fact(group, name, readable(value), suggests)


def label_fact(value: str) -> Fact:
    """Read the label that GB 45438-2025 demands of services in China: 1 means generated."""
    certain = re.search(r'"?Label"?\s*:\s*"?1\b', value)
    name = "Label of AI content (GB 45438-2025)"
    return Fact(ORIGIN, name, readable(value), "FAKE" if certain else "")


def text_facts(texts: list[tuple[str, str]]) -> list[Fact]:
    """Recognise the parameters of generators among the texts of a file.

    Args:
        texts: Keys of text blocks or names of EXIF tags, with their texts.

    Returns:
        One fact per text; EXIF tags that hold nothing of the kind are left to the EXIF facts.
    """
    return [fact for key, text in texts if (fact := _text_fact(key, text))]


def _text_fact(key: str, text: str) -> Fact | None:
    for generator in GENERATORS:
        if key in generator.keys and re.search(generator.pattern, text):
            name = f"{generator.tool}, in “{key}”"
            return Fact(GENERATOR, name, readable(text), "FAKE")
    if key == "AIGC" or (key == "UserComment" and re.match(r'\s*\{\s*"AIGC"\s*:', text)):
        return label_fact(text)
    if key in ("Software", "JPEG comment", "Source", "Comment"):
        return software_fact(readable(key, limit=80), text)
    if key in ("UserComment", "ImageDescription", "Make", "Model", "XPComment"):
        return None
    return Fact(TEXTS, readable(key, limit=80), readable(text))
