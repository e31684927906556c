"""Content credentials (C2PA): is there a signed history of the picture, and does it hold?

The package `c2pa-python` does the work if it is installed. It is told to leave the network alone,
and it is only called for a file that holds a manifest.
"""

from __future__ import annotations

import io
import json
import logging

from cifake_lib.metadata_facts import CREDENTIALS, Fact, readable
from cifake_lib.metadata_origin import source_type_fact

# A manifest is a JUMBF box; GIF cuts it into blocks, under this name.
_MARKS = (b"jumb", b"C2PA_GIF")
_SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    # Should a later version add another way out: no host is allowed.
    "core": {
        "allowed_network_hosts": [],
        "allow_redirects": False,
        "decode_identity_assertions": False,
        "max_decompressed_manifest_size_in_mb": 8,
    },
}
MAX_REPORT = 2**22  # characters
MAX_MANIFESTS = 20
MAX_ACTIONS = 20  # of a manifest that are listed
MAX_SOURCES = 5  # likewise

_UNTRUSTED = "signingCredential.untrusted"
# Source: C2PA specification 2.2, chapter "Validation", standard status codes.
_FAILURES = {
    "assertion.dataHash.mismatch": "the picture was changed after signing",
    "assertion.bmffHash.mismatch": "the picture was changed after signing",
    "assertion.boxesHash.mismatch": "the picture was changed after signing",
    "assertion.hashedURI.mismatch": "a statement was changed after signing",
    "assertion.missing": "a statement was taken out after signing",
    "claimSignature.mismatch": "the signature does not fit",
    "claimSignature.missing": "there is no signature",
    "signingCredential.expired": "the certificate had expired",
    "signingCredential.revoked": "the certificate was revoked",
    "signingCredential.invalid": "the certificate may not sign this",
}

logger = logging.getLogger(__name__)


def credential_facts(data: bytes) -> list[Fact]:
    """Check the content credentials of a file.

    Source: C2PA specification 2.2.

    Args:
        data: The whole file, untrusted.

    Returns:
        Whether there is a manifest and whether it is valid, then what it says. A valid one that
        names a source type suggests a class; an invalid one suggests nothing, as its statements
        may belong to another picture. Never raises.
    """
    if not any(mark in data for mark in _MARKS):
        return [_manifest("none found")]
    try:
        import c2pa
    except Exception as error:
        # ImportError if it is missing, nearly anything if its native library does not load.
        logger.info("c2pa does not load: %r", error)
        return [_manifest("present, not checked: the package c2pa-python is not installed")]
    try:
        report = _report(c2pa, data)
        return [_manifest("none found")] if report is None else _facts(report)
    except c2pa.C2paError.NotSupported:
        return [_manifest("not checked: c2pa-python does not read this format")]
    except Exception as error:
        logger.info("The manifest is unreadable: %r", error)
        return [_manifest("present, but unreadable or damaged")]


def _report(c2pa, data: bytes) -> dict | None:
    with c2pa.Context.from_dict(_SETTINGS) as context:
        reader = c2pa.Reader.try_create(io.BytesIO(data), context=context)
        if reader is None:
            return None
        with reader:
            report = reader.json()
    if len(report) > MAX_REPORT:
        raise ValueError(f"expected at most {MAX_REPORT} characters, received {len(report)}")
    return json.loads(report)


def _manifest(value: str) -> Fact:
    return Fact(CREDENTIALS, "Manifest", value)


def _facts(report: dict) -> list[Fact]:
    manifests = report["manifests"]
    active = manifests[report["active_manifest"]]
    state = report.get("validation_state")
    valid = state in ("Valid", "Trusted")
    signature = active.get("signature_info", {})
    facts = [
        _manifest(_verdict(report, valid)),
        Fact(CREDENTIALS, "Signed by", _issuer(signature, trusted=state == "Trusted")),
    ]
    if time := signature.get("time"):
        facts.append(Fact(CREDENTIALS, "Signed on", readable(str(time))))
    facts.append(Fact(CREDENTIALS, "Claim generator", _claim_generator(active)))
    facts += _history(active, "", valid)
    others = [manifest for manifest in manifests.values() if manifest is not active]
    for manifest in others[: MAX_MANIFESTS - 1]:
        facts += _history(manifest, " of an ingredient", valid)
    return facts


def _verdict(report: dict, valid: bool) -> str:
    if valid:
        return "present and valid: unchanged since it was signed"
    statuses = report.get("validation_status") or []
    codes = [str(status.get("code")) for status in statuses]
    reasons = [_FAILURES.get(code, code) for code in codes if code != _UNTRUSTED]
    return "present but INVALID: " + readable("; ".join(dict.fromkeys(reasons)) or "not verified")


def _issuer(signature: dict, *, trusted: bool) -> str:
    parts = [signature.get(key) for key in ("issuer", "common_name")]
    name = readable(", ".join(str(part) for part in parts if part)) or "no name"
    known = "a trusted issuer" if trusted else "unknown issuer: anyone can make such a certificate"
    return f"{name} ({known})"


def _claim_generator(manifest: dict) -> str:
    infos = manifest.get("claim_generator_info") or []
    names = [_named(info) for info in infos] or [str(manifest.get("claim_generator", "no name"))]
    return readable(", ".join(names))


def _named(agent: object) -> str:
    """Write a program, which is a text or a record: "Example model 2"."""
    if isinstance(agent, dict):
        return " ".join(str(agent[key]) for key in ("name", "version") if agent.get(key))
    return str(agent or "")


def _history(manifest: dict, whose: str, valid: bool) -> list[Fact]:
    """List the actions of a manifest and the source types that its assertions name."""
    actions, sources = [], []
    for assertion in manifest.get("assertions", []):
        data = assertion.get("data")
        if not isinstance(data, dict):
            continue
        sources += [data[key] for key in data if key.endswith("DigitalSourceType")]
        if str(assertion.get("label")).startswith("c2pa.actions"):
            for action in data.get("actions", []):
                agent = _named(action.get("softwareAgent"))
                actions.append(f"{action.get('action')}{f' by {agent}' if agent else ''}")
                sources.append(action.get("digitalSourceType"))
    facts = []
    if actions:
        facts.append(
            Fact(CREDENTIALS, f"Actions{whose}", readable("; ".join(actions[:MAX_ACTIONS])))
        )
    for source in list(dict.fromkeys(str(source) for source in sources if source))[:MAX_SOURCES]:
        fact = source_type_fact(source, group=CREDENTIALS, counts=valid)
        # A picture with a captured part may be anything; one with a generated part is not a photo.
        suggests = "" if whose and fact.suggests == "REAL" else fact.suggests
        facts.append(Fact(CREDENTIALS, f"{fact.name}{whose}", fact.value, suggests))
    return facts
