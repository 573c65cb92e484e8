"""Writes an OCI layout with two images for scripts/try-report: many files, waste, packages, and names that try to be markup."""
import gzip, hashlib, io, json, os, shutil, sys, tarfile

place = sys.argv[1]
shutil.rmtree(place, ignore_errors=True)
os.makedirs(f"{place}/blobs/sha256")
HOSTILE = [
    "</script><script>window.hacked=1</script>", "<img src=x onerror=window.hacked=1>", "\"><svg onload=window.hacked=1>",
    "'-window.hacked=1-'", "${window.hacked=1}", "<!--<script>", "\u2028window.hacked=1", "\u202egnp.exe", "a|b`c`",
]


def blob(data, media_type):
    digest = hashlib.sha256(data).hexdigest()
    with open(f"{place}/blobs/sha256/{digest}", "wb") as file:
        file.write(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def layer(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    data = out.getvalue()
    described = blob(gzip.compress(data, 1, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
    return described, "sha256:" + hashlib.sha256(data).hexdigest()


def image(name, layers):
    described = [layer(files) for _, files in layers]
    config = {
        "architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in described]},
        "history": [{"created_by": words} for words, _ in layers],
    }
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor for descriptor, _ in described],
    }
    described = blob(json.dumps(manifest).encode(), manifest["mediaType"])
    return described | {"annotations": {"org.opencontainers.image.ref.name": name}}


def status(version):
    return f"Package: libc6\nVersion: {version}\n\nPackage: bash\nVersion: 5\n".encode()


base = [(f"usr/share/doc/package-{n // 20}/file-{n % 20}", b"x" * (n % 977)) for n in range(20000)]
base += [("usr/lib/large.so", b"\x7fELF" + b"a" * 3_000_000), ("var/lib/dpkg/status", status("2.36"))]
base += [(f"hostile/{name.replace('/', '_')}", b"content") for name in HOSTILE]
removed = [(f"usr/share/doc/package-{n}/.wh.file-{m}", b"") for n in range(200) for m in range(20)]
later = [("var/lib/dpkg/status", status("2.37")), ("app/main", b"m" * 500_000)]
words = "RUN echo </script><script>window.hacked=1</script> " + "long " * 60
layers = [("/bin/sh -c #(nop) ADD file:ab in / ", base), (words, removed), ("COPY main /app # buildkit", later[1:])]
index = [image("one", layers), image("two", layers[:2] + [("COPY main /app # buildkit", later)])]
with open(f"{place}/index.json", "w") as file:
    json.dump({"schemaVersion": 2, "manifests": index}, file)
with open(f"{place}/oci-layout", "w") as file:
    json.dump({"imageLayoutVersion": "1.0.0"}, file)
