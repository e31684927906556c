"""A signed history is checked, tampering shows, and nothing is ever fetched."""

import builtins
import datetime
import http.server
import io
import json
import threading

import pytest
from PIL import Image

from cifake_lib.metadata import read_metadata

c2pa = pytest.importorskip("c2pa")
x509 = pytest.importorskip("cryptography.x509")

from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"]


def picture(file_format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((32, 32)).convert("RGB").save(buffer, file_format)
    return buffer.getvalue()


def _certificate(subject, issuer, key, signing_key, *, authority):
    names = [
        x509.Name(
            [
                x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Example <b>Signer</b>"),
                x509.NameAttribute(x509.NameOID.COMMON_NAME, name),
            ]
        )
        for name in (subject, issuer)
    ]
    usage = {
        "digital_signature": not authority,
        "key_cert_sign": authority,
        "crl_sign": authority,
        **dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        ),
        **dict.fromkeys(("encipher_only", "decipher_only")),
    }
    now = datetime.datetime.now(datetime.UTC)
    issuer_key = signing_key.public_key()
    builder = (
        x509.CertificateBuilder(*names[::-1], key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{k: bool(v) for k, v in usage.items()}), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
        )
    )
    if not authority:
        purpose = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(signing_key, hashes.SHA256())


@pytest.fixture(scope="module")
def sign():
    """`sign(data, mime, actions)` returns the file with a manifest signed by a test certificate."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate("Test root", "Test root", root_key, root_key, authority=True)
    leaf = _certificate("Test signer", "Test root", key, root_key, authority=False)
    chain = b"".join(
        certificate.public_bytes(serialization.Encoding.PEM) for certificate in (leaf, root)
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

    def signed(data, mime="image/jpeg", *, source="trainedAlgorithmicMedia", remote="", part=b""):
        action = {
            "action": "c2pa.created",
            "digitalSourceType": SOURCE + source,
            "softwareAgent": {"name": "Example model", "version": "2"},
        }
        manifest = {
            "claim_generator_info": [{"name": "example_generator", "version": "1.0"}],
            "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
        }
        settings = {"verify": {"verify_after_sign": False}}
        settings["builder"] = {"thumbnail": {"enabled": False}}
        info = c2pa.C2paSignerInfo(b"es256", chain, secret, None)
        target = io.BytesIO()
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(manifest, context=context) as builder,
        ):
            if part:
                record = {"title": "part", "relationship": "componentOf"}
                builder.add_ingredient(record, mime, io.BytesIO(part))
            if remote:
                builder.set_no_embed()
                builder.set_remote_url(remote)
            builder.sign(signer, mime, io.BytesIO(data), target)
        return target.getvalue()

    return signed


def credentials(data: bytes) -> dict[str, str]:
    found = read_metadata(data, name="file").facts
    return {fact.name: fact.value for fact in found if fact.group.startswith("Content")}


def suggestions(data: bytes) -> dict[str, str]:
    return {
        fact.name: fact.suggests for fact in read_metadata(data, name="file").facts if fact.suggests
    }


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_signed_file_is_valid_and_tells_its_history(sign, file_format):
    data = sign(picture(file_format), f"image/{file_format.lower()}")
    found = credentials(data)
    assert found["Manifest"] == "present and valid: unchanged since it was signed"
    assert found["Signed by"].startswith("Example <b>Signer</b>, Test signer (unknown issuer")
    assert found["Claim generator"].startswith("example_generator 1.0")
    assert found["Actions"] == "c2pa.created by Example model 2"
    assert found["Digital source type"] == "trainedAlgorithmicMedia: created by generative AI"
    assert suggestions(data) == {"Digital source type": "FAKE"}


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_changed_picture_is_invalid_and_suggests_nothing(sign, file_format):
    plain = picture(file_format)
    data = sign(plain, f"image/{file_format.lower()}")
    tail = plain[-40:-20] if file_format in ("JPEG", "AVIF") else plain[len(plain) // 2 :][:20]
    at = data.index(tail) + 10
    changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    assert credentials(changed)["Manifest"].startswith("present but INVALID")
    assert not suggestions(changed)


def test_the_reason_of_invalidity_is_a_sentence(sign):
    data = bytearray(sign(picture()))
    data[-40] ^= 1
    expected = "present but INVALID: the picture was changed after signing"
    assert credentials(bytes(data))["Manifest"] == expected


def test_a_changed_statement_is_invalid(sign):
    data = sign(picture(), source="trainedAlgorithmicMedia")
    forged = data.replace(b"Example model", b"Another model")
    assert forged != data
    assert credentials(forged)["Manifest"].startswith(
        "present but INVALID: a statement was changed"
    )
    assert not suggestions(forged)


def test_a_camera_that_signs_suggests_real(sign):
    assert suggestions(sign(picture(), source="digitalCapture")) == {"Digital source type": "REAL"}


def test_a_generated_part_counts_and_a_captured_part_does_not(sign):
    for source, suggested in (("trainedAlgorithmicMedia", "FAKE"), ("digitalCapture", "")):
        part = sign(picture(), source=source)
        data = sign(picture(), source="composite", part=part)
        name = "Digital source type of an ingredient"
        assert credentials(data)[name].startswith(source)
        assert suggestions(data) == ({name: suggested} if suggested else {})


def test_a_file_without_manifest_says_so():
    for file_format in (*FORMATS, "BMP"):
        assert credentials(picture(file_format)) == {"Manifest": "none found"}
    # The mark of a manifest alone makes none.
    assert credentials(picture() + b"jumb") == {"Manifest": "none found"}
    assert "does not read this format" in credentials(picture("BMP") + b"jumb")["Manifest"]


def test_a_damaged_manifest_never_raises_and_never_says_something_else(sign):
    data = sign(picture())
    original = credentials(data)
    for at in range(data.index(b"jumb") - 20, data.index(b"\xff\xdb"), 37):
        changed = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        found = credentials(changed)
        # Its padding is covered by no signature.
        assert found == original or "valid:" not in found["Manifest"]


def test_without_the_package_a_manifest_is_seen_but_not_checked(sign, monkeypatch):
    data = sign(picture())
    importing = builtins.__import__

    def missing(name, *arguments, **options):
        if name == "c2pa":
            raise ImportError(name)
        return importing(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    found = credentials(data)["Manifest"]
    assert found == "present, not checked: the package c2pa-python is not installed"
    assert credentials(picture())["Manifest"] == "none found"
    assert not suggestions(data)


def test_nothing_is_fetched_from_the_network(sign):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/manifest.c2pa"
        data = sign(picture(), remote=address)
        # The second file also holds the mark, so that c2pa itself is asked.
        for content in (data, data + b"jumb"):
            found = credentials(content)
            assert found["Manifest kept elsewhere"].startswith(address)
            assert "not fetched" in found["Manifest kept elsewhere"]
        # The same file does make the package's own defaults ask: the test can fail.
        with pytest.raises(c2pa.C2paError):
            c2pa.Reader("image/jpeg", io.BytesIO(data))
        assert asked == ["/manifest.c2pa"]
        server.shutdown()


def test_the_report_of_the_package_is_bounded(sign, monkeypatch):
    monkeypatch.setattr("cifake_lib.content_credentials.MAX_REPORT", 100)
    assert credentials(sign(picture()))["Manifest"] == "present, but unreadable or damaged"


def test_the_record_is_plain_data(sign):
    from cifake_lib.metadata import metadata_html, metadata_json

    metadata = read_metadata(sign(picture()), name="file")
    json.dumps(metadata_json(metadata))
    assert "Example &lt;b&gt;Signer&lt;/b&gt;" in metadata_html(metadata)
