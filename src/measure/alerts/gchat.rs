//! Google Chat: cards with a little HTML.

use serde::Serialize;

use super::{Message, json, quoted};

#[derive(Serialize)]
struct Payload<'a> {
    cards: [Card<'a>; 1],
}

#[derive(Serialize)]
struct Card<'a> {
    header: Header<'a>,
    sections: Vec<Section>,
}

#[derive(Serialize)]
struct Header<'a> {
    title: &'a str,
    subtitle: &'a str,
    #[serde(rename = "imageUrl")]
    image: &'a str,
}

#[derive(Serialize)]
struct Section {
    widgets: [Widget; 1],
}

#[derive(Serialize)]
struct Widget {
    #[serde(rename = "textParagraph")]
    paragraph: Paragraph,
}

#[derive(Serialize)]
struct Paragraph {
    text: String,
}

/// The payload for Google Chat.
pub(super) fn encode(message: &Message) -> Vec<u8> {
    let strong = |text: &str| {
        let text = quoted(text);
        format!("<font color=#848484><strong>{text}</strong></font>")
    };
    let section = |text| Section {
        widgets: [Widget {
            paragraph: Paragraph { text },
        }],
    };
    let fields = message
        .fields
        .iter()
        .map(|field| section(format!("{}<br>{}", field.name, strong(&field.value))));
    json(&Payload {
        cards: [Card {
            header: Header {
                title: "Flagger",
                subtitle: &message.subject,
                image: "https://flagger.app/favicon.png",
            },
            sections: std::iter::once(section(strong(&message.text)))
                .chain(fields)
                .collect(),
        }],
    })
}
