//! Images made by hand: archives and layouts of every shape, from a few lines each.

#![allow(dead_code, reason = "each test program uses a part")]

use std::fs;
use std::io::Write;
use std::path::Path;

use layflat::core::digest::Digest;
use serde_json::{Value, json};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The digest of some bytes, as text.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::sha256_of(bytes).to_string()
}

/// Its hex digits alone.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Digest::sha256_of(bytes).hex().to_owned()
}

/// A tar archive in the making.
pub(crate) struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        header
    }

    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.mode(name, 0o644, (0, 0), content)
    }

    /// A file with a mode and an owner.
    pub(crate) fn mode(mut self, name: &str, mode: u32, owner: (u64, u64), content: impl AsRef<[u8]>) -> Self {
        let mut header = Self::header(tar::EntryType::Regular, mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_size(content.as_ref().len() as u64);
        self.0.append_data(&mut header, name, content.as_ref()).unwrap();
        self
    }

    pub(crate) fn directory(mut self, name: &str) -> Self {
        let mut header = Self::header(tar::EntryType::Directory, 0o755);
        self.0.append_data(&mut header, name, &[][..]).unwrap();
        self
    }

    /// A link, symbolic or hard; the target may say what it likes.
    pub(crate) fn link(mut self, kind: tar::EntryType, name: &str, target: &str) -> Self {
        let mut header = Self::header(kind, 0o777);
        header.set_link_name_literal(target).unwrap();
        self.0.append_data(&mut header, name, &[][..]).unwrap();
        self
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(tar::EntryType::Symlink, name, target)
    }

    pub(crate) fn device(mut self, name: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(tar::EntryType::Char, 0o666);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.0.append_data(&mut header, name, &[][..]).unwrap();
        self
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A layer of one file.
pub(crate) fn layer(name: &str) -> Vec<u8> {
    Tar::new().file(name, name).done()
}

/// A configuration for layers with these uncompressed bytes.
pub(crate) fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    config_for("linux/amd64", json!(diff_ids))
}

/// A configuration for a platform.
pub(crate) fn config_for(platform: &str, diff_ids: Value) -> Vec<u8> {
    let mut parts = platform.split('/');
    let (os, architecture, variant) = (parts.next(), parts.next(), parts.next());
    let value = json!({
        "architecture": architecture, "os": os, "variant": variant, "config": {"Cmd": ["sh"], "Env": null},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "COPY a /"}, {"created_by": "ENV x=y", "empty_layer": true}, {"created_by": "RUN b"}],
    });
    serde_json::to_vec(&value).unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zstd frame that decoders pass over.
pub(crate) fn skippable(bytes: &[u8]) -> Vec<u8> {
    [&[0x53, 0x2a, 0x4d, 0x18], &u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat()
}

/// The two halves of some bytes, each through `compress`: what parallel compressors and `cat` make.
pub(crate) fn halves(bytes: &[u8], compress: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (one, two) = bytes.split_at(bytes.len() / 2);
    [compress(one), compress(two)].concat()
}

/// An OCI image layout in the making.
#[derive(Clone, Default)]
pub(crate) struct Layout {
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) manifests: Vec<Value>,
}

impl Layout {
    /// Keeps a blob, and gives its descriptor.
    pub(crate) fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        self.files.push((format!("blobs/sha256/{}", hex(bytes)), bytes.to_vec()));
        descriptor(media_type, bytes)
    }

    /// Keeps a JSON document.
    pub(crate) fn document(&mut self, media_type: &str, value: &Value) -> Value {
        self.blob(media_type, &serde_json::to_vec(value).unwrap())
    }

    /// An image of layers that are stored as they are; its manifest's descriptor.
    pub(crate) fn image(&mut self, layers: &[&[u8]]) -> Value {
        let stored: Vec<(&str, Vec<u8>)> = layers.iter().map(|layer| (LAYER, layer.to_vec())).collect();
        self.image_of(&config(layers), &stored)
    }

    /// An image of one layer for a platform, which its descriptor names.
    pub(crate) fn image_for(&mut self, platform: &str) -> Value {
        let layer = layer(&platform.replace('/', "-"));
        let mut manifest = self.image_of(&config_for(platform, json!([digest(&layer)])), &[(LAYER, layer)]);
        let parts: Vec<&str> = platform.split('/').collect();
        manifest["platform"] = json!({"os": parts[0], "architecture": parts[1]});
        if let Some(variant) = parts.get(2) {
            manifest["platform"]["variant"] = json!(variant);
        }
        manifest
    }

    /// An image of a configuration and stored layers, each with its media type.
    pub(crate) fn image_of(&mut self, config: &[u8], layers: &[(&str, Vec<u8>)]) -> Value {
        let config = self.blob(CONFIG, config);
        let layers: Vec<Value> = layers.iter().map(|(media_type, bytes)| self.blob(media_type, bytes)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.document(MANIFEST, &manifest)
    }

    /// Lists a descriptor in index.json.
    pub(crate) fn list(mut self, descriptor: Value) -> Self {
        self.manifests.push(descriptor);
        self
    }

    /// Everything, the index too.
    pub(crate) fn all_files(&self) -> Vec<(String, Vec<u8>)> {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests});
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), serde_json::to_vec(&index).unwrap()),
        ];
        files.extend(self.files.iter().cloned());
        files
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        archive(&self.all_files())
    }

    pub(crate) fn write(&self, directory: &Path) {
        for (name, bytes) in self.all_files() {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// A descriptor with a tag.
pub(crate) fn tagged(mut descriptor: Value, tag: &str) -> Value {
    descriptor["annotations"] = json!({REF_NAME: tag});
    descriptor
}

/// An archive of files.
pub(crate) fn archive<N: AsRef<str>, B: AsRef<[u8]>>(files: &[(N, B)]) -> Vec<u8> {
    files.iter().fold(Tar::new(), |tar, (name, bytes)| tar.file(name.as_ref(), bytes)).done()
}

/// What Podman, skopeo and buildah write: every file by what it is at the top.
pub(crate) fn podman_archive(images: &[(&[&str], &[&[u8]])]) -> Vec<u8> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut items = Vec::new();
    for (tags, layers) in images {
        let config = config(layers);
        let name = format!("{}.json", hex(&config));
        files.push((name.clone(), config));
        let names: Vec<String> = layers.iter().map(|layer| format!("{}.tar", hex(layer))).collect();
        files.extend(names.iter().cloned().zip(layers.iter().map(|layer| layer.to_vec())));
        items.push(json!({"Config": name, "RepoTags": tags, "Layers": names}));
    }
    files.push(("manifest.json".to_owned(), serde_json::to_vec(&items).unwrap()));
    archive(&files)
}
