//! The grammar of the demo stories.
//!
//! A story has a hero, an animal and a thing that is sought. They come back again and again, so a
//! model gains by remembering names, pronouns, colours and which animal makes which sound.

use super::teller::{Decide, Teller};
use super::words::*;

/// What stays the same through a story.
struct Cast {
    hero: &'static Person,
    animal: &'static [&'static str; 3],
    colour: &'static str,
    thing: &'static str,
}

/// Writes one story and an empty line after it.
pub(super) fn tell(teller: &mut Teller<impl Decide>) {
    let cast = opening(teller);
    let mut sentences = 0;
    while sentence(teller, &cast, sentences) {
        sentences += 1;
    }
    closing(teller, &cast);
}

fn opening(teller: &mut Teller<impl Decide>) -> Cast {
    teller.word(TIMES);
    teller.say(", ");
    let hero = &PEOPLE[teller.word(PEOPLE.iter().map(|person| person.name))];
    teller.say(" the ");
    teller.word(TRADES);
    teller.choose(&[
        (" was looking for a ", 5),
        (" had lost a ", 4),
        (" wanted to find a ", 3),
        (" dreamed of a ", 2),
    ]);
    let colour = COLOURS[teller.word(COLOURS)];
    teller.say(" ");
    let thing = THINGS[teller.word(THINGS)];
    teller.say(". ");
    teller.say(hero.pronouns.subject);
    teller.choose(&[(" came from ", 3), (" lived near ", 3), (" was on the way to ", 2)]);
    teller.word(PLACES);
    teller.say(" with ");
    teller.say(hero.pronouns.possessive);
    teller.say(" ");
    let animal = &ANIMALS[teller.word(ANIMALS.iter().map(|[name, ..]| *name))];
    teller.say(".");
    Cast { hero, animal, colour, thing }
}

/// Writes a sentence of the middle part; false once the end has begun instead.
fn sentence(teller: &mut Teller<impl Decide>, cast: &Cast, before: u32) -> bool {
    let the_animal = format!(" The {} ", cast.animal[0]);
    let pronoun = format!(" {} ", cast.hero.pronouns.subject);
    let name = format!(" {} ", cast.hero.name);
    let mut options = vec![
        (pronoun.as_str(), 30),
        (name.as_str(), 15),
        (the_animal.as_str(), 20),
        (" Together they ", 10),
        (" Outside, ", 8),
    ];
    if before >= 2 {
        options.push((" In the end, ", 5 * before));
    }
    match teller.choose(&options) {
        0 | 1 => hero_acts(teller, cast),
        2 => animal_acts(teller, cast),
        3 => both_act(teller, cast),
        4 => scenery(teller),
        _ => return false,
    }
    true
}

fn hero_acts(teller: &mut Teller<impl Decide>, cast: &Cast) {
    let feed = format!("gave {} {} some ", cast.hero.pronouns.possessive, cast.animal[0]);
    let chosen = teller.choose(&[
        ("walked to ", 10),
        ("asked the ", 8),
        ("found a ", 6),
        ("was ", 6),
        (&feed, 4),
        ("sang ", 3),
        ("looked ", 5),
    ]);
    match chosen {
        0 => place_and_reason(teller, cast),
        1 => question(teller, cast),
        2 => discovery(teller, cast),
        3 => feeling(teller),
        4 => teller.say(&format!("{}.", cast.animal[2])),
        5 => {
            teller.word(SONGS);
            teller.say(".");
        }
        _ => {
            teller.word(SPOTS);
            teller.say(&format!(", but there was no {}.", cast.thing));
        }
    }
}

fn place_and_reason(teller: &mut Teller<impl Decide>, cast: &Cast) {
    teller.word(PLACES);
    if teller.choose(&[(".", 3), (" because ", 1)]) == 1 {
        teller.say(&cast.hero.pronouns.subject.to_lowercase());
        teller.say(" was ");
        feeling(teller);
    }
}

fn feeling(teller: &mut Teller<impl Decide>) {
    teller.word(FEELINGS);
    teller.say(".");
}

fn question(teller: &mut Teller<impl Decide>, cast: &Cast) {
    let neighbour = NEIGHBOURS[teller.word(NEIGHBOURS)];
    teller.say(&format!(" about the {} {}. \"", cast.colour, cast.thing));
    teller.word(ANSWERS);
    teller.say(&format!(",\" said the {neighbour}."));
}

fn discovery(teller: &mut Teller<impl Decide>, cast: &Cast) {
    let others = COLOURS.into_iter().filter(|colour| *colour != cast.colour);
    teller.word(others);
    teller.say(&format!(" {} ", cast.thing));
    teller.word(SPOTS);
    teller.say(&format!(", but it was not {}.", cast.colour));
}

fn animal_acts(teller: &mut Teller<impl Decide>, cast: &Cast) {
    let [_, sound, food] = cast.animal;
    let follow = format!("followed {}", cast.hero.pronouns.object);
    let smell = format!("smelled {food} ");
    let chosen =
        teller.choose(&[(sound, 10), (&follow, 6), ("slept ", 6), ("ran to ", 6), (&smell, 3)]);
    match chosen {
        0 | 1 => {}
        3 => {
            teller.word(PLACES);
        }
        _ => {
            teller.word(SPOTS);
        }
    }
    teller.say(".");
}

fn both_act(teller: &mut Teller<impl Decide>, cast: &Cast) {
    let talk = format!("talked about the {}", cast.thing);
    let chosen = teller.choose(&[("went to ", 5), ("rested ", 3), (&talk, 2), ("were ", 2)]);
    match chosen {
        0 => {
            teller.word(PLACES);
        }
        1 => {
            teller.word(SPOTS);
        }
        2 => {}
        _ => {
            teller.word(FEELINGS);
        }
    }
    teller.say(".");
}

/// One is, many are.
fn scenery(teller: &mut Teller<impl Decide>) {
    let several = teller.word(NUMBERS).min(1);
    teller.say(" ");
    teller.word(CROWDS.iter().map(|forms| forms[several]));
    teller.say([" was ", " were "][several]);
    teller.word(DOINGS);
    teller.say(".");
}

fn closing(teller: &mut Teller<impl Decide>, cast: &Cast) {
    teller.say(cast.hero.name);
    let prize = format!(" the {} {} ", cast.colour, cast.thing);
    let chosen = teller.choose(&[(" found", 4), (" went home without", 1)]);
    teller.say(prize.trim_end());
    if chosen == 0 {
        teller.say(" ");
        teller.word(SPOTS);
    }
    teller.say(&format!(". The {} {}, and ", cast.animal[0], cast.animal[1]));
    teller.say(&cast.hero.pronouns.subject.to_lowercase());
    teller.say(" was ");
    let moods = [["happy", "proud", "grateful"], ["sad", "tired", "angry"]];
    teller.word(moods[chosen]);
    teller.say(".\n\n");
}

#[cfg(test)]
mod tests {
    use super::super::teller::Choice;
    use super::*;
    use crate::random::Generator;
    use std::collections::HashMap;

    /// Reads the choices off a finished text.
    struct Reader<'a>(&'a str);

    impl Decide for Reader<'_> {
        fn decide(&mut self, written: &str, options: &[Choice]) -> usize {
            let rest = &self.0[written.len()..];
            let fits = |(text, _): &Choice| rest.starts_with(text);
            let found: Vec<_> = (0..options.len()).filter(|i| fits(&options[*i])).collect();
            assert_eq!(found.len(), 1, "{options:?} in {rest:.60?}");
            found[0]
        }
    }

    #[test]
    fn a_reader_finds_the_same_choices_in_the_text() {
        let mut writer = Teller::new(Generator::new(11));
        (0..2_000).for_each(|_| tell(&mut writer));
        let mut reader = Teller::new(Reader(&writer.text));
        (0..2_000).for_each(|_| tell(&mut reader));
        assert!(reader.text == writer.text);
        assert_eq!(reader.nats, writer.nats);
    }

    #[test]
    fn equal_stories_have_equal_probability_and_are_as_rare_as_it_says() {
        let mut teller = Teller::new(Generator::new(12));
        let mut seen = HashMap::new();
        for _ in 0..5_000 {
            (teller.text, teller.nats) = (String::new(), 0.0);
            tell(&mut teller);
            let nats = *seen.entry(teller.text.clone()).or_insert(teller.nats);
            assert_eq!(nats, teller.nats);
            assert!(teller.nats > 15.0, "{}", teller.text);
        }
    }

    #[test]
    fn names_and_things_come_back_in_a_story() {
        let mut teller = Teller::new(Generator::new(13));
        let cast = opening(&mut teller);
        let begin = teller.text.len();
        while sentence(&mut teller, &cast, 1_000) {}
        closing(&mut teller, &cast);
        let rest = &teller.text[begin..];
        for again in [cast.hero.name, cast.animal[0], cast.colour, cast.thing] {
            assert!(rest.contains(again), "{again} in {rest}");
        }
    }

    #[test]
    fn numbers_agree_with_nouns_and_verbs() {
        let mut teller = Teller::new(Generator::new(14));
        (0..500).for_each(|_| tell(&mut teller));
        let mut checked = 0;
        for scene in teller.text.split("Outside, ").skip(1) {
            let words: Vec<_> = scene.split_whitespace().take(3).collect();
            let one = words[0] == "one";
            assert_eq!(one, words[2] == "was", "{words:?}");
            assert!(CROWDS.iter().any(|forms| forms[usize::from(!one)] == words[1]));
            checked += 1;
        }
        assert!(checked > 100);
    }
}
