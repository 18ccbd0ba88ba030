//! The persona's site: a few static pages drawn from the seed, and what the persona file adds.

use crate::persona::Decoy;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One file of the site.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) kind: String,
    pub(super) content: Arc<[u8]>,
    pub(super) modified_ns: i64,
}

impl Page {
    /// nginx's: modification time and size in hexadecimal.
    pub(super) fn etag(&self) -> String {
        format!("{:x}-{:x}", self.modified_ns / 1_000_000_000, self.content.len())
    }
}

/// What is at a path.
pub(super) enum Found {
    Page(Page),
    /// A directory asked for without its slash.
    Directory,
    /// A directory without an index.
    Forbidden,
    Missing,
}

/// All files by path.
pub(super) struct Site(BTreeMap<Vec<u8>, Page>);

/// Largest page of a persona file.
const MAX_PAGE: usize = 1 << 20;

impl Site {
    pub(super) fn new(decoy: &Decoy, title: Option<&str>, pages: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut files = BTreeMap::new();
        // Some day within the two years before 2026-09, at an hour people work.
        let day = 1_725_148_800 + 86_400 * i64::try_from(decoy.seed.below("site-day", 720)).unwrap_or(0);
        let at = (day + 25_200 + i64::try_from(decoy.seed.below("site-second", 36_000)).unwrap_or(0)) * 1_000_000_000;
        let mut add = |path: &str, content: &str| {
            files.insert(
                path.as_bytes().to_vec(),
                Page { kind: kind(path).to_owned(), content: content.as_bytes().into(), modified_ns: at },
            );
        };
        let drawn = draw_title(decoy);
        let title = title.unwrap_or(&drawn);
        add("/index.html", &index(decoy, title));
        add("/robots.txt", "User-agent: *\nDisallow: /internal/\nDisallow: /backup/\n");
        add("/style.css", &style(decoy));
        add("/internal/index.html", &internal(decoy, title));
        for (path, content) in pages {
            if !path.starts_with('/') || path.ends_with('/') || path.contains("..") {
                return Err(format!("pages: {path:?} is not the absolute path of a file, such as \"/about.html\""));
            }
            if content.len() > MAX_PAGE {
                return Err(format!("pages: {path:?} is larger than {MAX_PAGE} bytes; shorten it"));
            }
            add(path, content);
        }
        Ok(Self(files))
    }

    /// All files, for the tests to give to the real server.
    #[cfg(test)]
    pub(super) fn pages(&self) -> impl Iterator<Item = (&[u8], &Page)> {
        self.0.iter().map(|(path, page)| (path.as_slice(), page))
    }

    pub(super) fn find(&self, path: &[u8]) -> Found {
        if let Some(page) = self.0.get(path) {
            return Found::Page(page.clone());
        }
        let mut prefix = path.to_vec();
        let slash = prefix.ends_with(b"/");
        if slash {
            let mut index = prefix.clone();
            index.extend_from_slice(b"index.html");
            if let Some(page) = self.0.get(&index) {
                return Found::Page(page.clone());
            }
        } else {
            prefix.push(b'/');
        }
        match self.0.keys().any(|file| file.starts_with(&prefix)) {
            true if slash => Found::Forbidden,
            true => Found::Directory,
            false => Found::Missing,
        }
    }
}

fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html" | "htm") => "text/html",
        Some("css") => "text/css",
        Some("js") => "application/javascript",
        Some("txt") => "text/plain",
        Some("json") => "application/json",
        Some("xml") => "text/xml",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

fn draw_title(decoy: &Decoy) -> String {
    let first = decoy.seed.choose("site-first", &["Nord", "Brook", "Hallam", "Vesta", "Copper", "Linden", "Harbour", "Alder", "Quarry"]);
    let second = decoy.seed.choose("site-second-name", &["Logistics", "Tooling", "Supplies", "Engineering", "Print", "Foods", "Optics"]);
    format!("{} {}", first.unwrap_or(&"Nord"), second.unwrap_or(&"Supplies"))
}

fn index(decoy: &Decoy, title: &str) -> String {
    let since = 1961 + decoy.seed.below("site-since", 50);
    let phone = 1000 + decoy.seed.below("site-phone", 8999);
    let lead = decoy
        .seed
        .choose(
            "site-lead",
            &[
                "Orders placed before noon leave the same day.",
                "The new price list is valid from the first of next month.",
                "Our office is closed for stocktaking on the last Friday of the quarter.",
                "Please quote your customer number in all correspondence.",
            ],
        )
        .unwrap_or(&"");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n<body>\n<header><h1>{title}</h1><p>Since {since}</p></header>\n<main>\n<p>{lead}</p>\n<ul>\n<li><a href=\"/internal/\">Staff</a></li>\n<li>Switchboard: extension {phone}</li>\n</ul>\n</main>\n<footer>{host}</footer>\n</body>\n</html>\n",
        host = decoy.fqdn()
    )
}

fn internal(decoy: &Decoy, title: &str) -> String {
    let room = 100 + decoy.seed.below("site-room", 300);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title} – staff</title>\n<link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n<body>\n<h1>Staff pages</h1>\n<p>File drop: ftp://{host}/ – shell access on request, room {room}.</p>\n</body>\n</html>\n",
        host = decoy.fqdn()
    )
}

fn style(decoy: &Decoy) -> String {
    let hue = decoy.seed.below("site-hue", 360);
    let width = 40 + decoy.seed.below("site-width", 20);
    format!(
        "body {{ font-family: sans-serif; max-width: {width}em; margin: 2em auto; }}\nh1 {{ color: hsl({hue}, 40%, 30%); }}\nfooter {{ color: #888; font-size: 80%; }}\n"
    )
}
