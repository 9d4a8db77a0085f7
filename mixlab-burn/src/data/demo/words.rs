//! The words of the demo stories. No entry of a list is the beginning of another one of it.

/// Who a story is about, and how the story speaks of her or him.
pub(super) struct Person {
    pub name: &'static str,
    pub pronouns: &'static Pronouns,
}

/// "She" at the beginning of a sentence, "her" after a verb, "her" before a noun.
pub(super) struct Pronouns {
    pub subject: &'static str,
    pub object: &'static str,
    pub possessive: &'static str,
}

static HER: Pronouns = Pronouns { subject: "She", object: "her", possessive: "her" };
static HIM: Pronouns = Pronouns { subject: "He", object: "him", possessive: "his" };

const fn she(name: &'static str) -> Person {
    Person { name, pronouns: &HER }
}

const fn he(name: &'static str) -> Person {
    Person { name, pronouns: &HIM }
}

pub(super) static PEOPLE: [Person; 20] = [
    she("Mira"),
    he("Tobin"),
    she("Lena"),
    he("Emil"),
    he("Jonas"),
    she("Petra"),
    she("Wanda"),
    he("Otto"),
    she("Suri"),
    he("Rafi"),
    he("Bruno"),
    she("Hanna"),
    she("Freya"),
    he("Karl"),
    she("Nadia"),
    he("Viktor"),
    she("Ilse"),
    he("Silas"),
    he("Ludo"),
    she("Yara"),
];

/// Animals, what they do with their voice, and what they like to eat.
pub(super) static ANIMALS: [[&str; 3]; 12] = [
    ["dog", "barked", "bones"],
    ["cat", "purred", "fish"],
    ["goat", "bleated", "leaves"],
    ["horse", "neighed", "oats"],
    ["crow", "cawed", "crumbs"],
    ["duck", "quacked", "bread"],
    ["owl", "hooted", "moths"],
    ["mouse", "squeaked", "cheese"],
    ["frog", "croaked", "flies"],
    ["pig", "grunted", "apples"],
    ["hen", "clucked", "corn"],
    ["wolf", "howled", "meat"],
];

/// One of them, and several of them.
pub(super) static CROWDS: [[&str; 2]; 10] = [
    ["bird", "birds"],
    ["child", "children"],
    ["goose", "geese"],
    ["boat", "boats"],
    ["soldier", "soldiers"],
    ["woman", "women"],
    ["cart", "carts"],
    ["ox", "oxen"],
    ["wagon", "wagons"],
    ["lamb", "lambs"],
];

pub(super) static NUMBERS: [&str; 6] = ["one", "two", "three", "seven", "twelve", "many"];

pub(super) static DOINGS: [&str; 8] = [
    "passing by",
    "resting",
    "waiting for the rain",
    "moving slowly",
    "coming home",
    "hiding",
    "turning around",
    "standing still",
];

pub(super) static TIMES: [&str; 10] = [
    "One morning",
    "One evening",
    "Long ago",
    "Last winter",
    "On a windy day",
    "At harvest time",
    "Before sunrise",
    "In early spring",
    "During a storm",
    "Late at night",
];

pub(super) static TRADES: [&str; 16] = [
    "baker",
    "farmer",
    "sailor",
    "miller",
    "teacher",
    "shepherd",
    "weaver",
    "painter",
    "gardener",
    "carpenter",
    "doctor",
    "smith",
    "singer",
    "hunter",
    "potter",
    "clockmaker",
];

pub(super) static NEIGHBOURS: [&str; 12] = [
    "old woman",
    "fisherman",
    "tall stranger",
    "mayor",
    "postman",
    "tailor",
    "young king",
    "nurse",
    "beggar",
    "butcher",
    "judge",
    "ferryman",
];

pub(super) static PLACES: [&str; 20] = [
    "the harbour",
    "the village",
    "the forest",
    "the market",
    "the river",
    "the mill",
    "the castle",
    "the meadow",
    "the mountain",
    "the lake",
    "the church",
    "the bridge",
    "the garden",
    "the island",
    "the tavern",
    "the desert",
    "the school",
    "the lighthouse",
    "the cave",
    "the swamp",
];

pub(super) static SPOTS: [&str; 14] = [
    "under a stone",
    "behind the door",
    "in a hollow tree",
    "on the roof",
    "between two walls",
    "beside the well",
    "inside a barrel",
    "near the fire",
    "below the stairs",
    "at the gate",
    "among the reeds",
    "above the window",
    "along the road",
    "in the tall grass",
];

pub(super) static THINGS: [&str; 24] = [
    "key", "lamp", "kite", "hat", "ring", "book", "coin", "boot", "drum", "map", "flute", "basket",
    "mirror", "feather", "bell", "scarf", "button", "letter", "rope", "spoon", "candle", "ladder",
    "necklace", "violin",
];

pub(super) static COLOURS: [&str; 10] =
    ["red", "blue", "green", "golden", "white", "black", "silver", "yellow", "brown", "purple"];

pub(super) static FEELINGS: [&str; 14] = [
    "happy",
    "tired",
    "hungry",
    "sad",
    "proud",
    "afraid",
    "curious",
    "angry",
    "calm",
    "lonely",
    "cold",
    "surprised",
    "brave",
    "grateful",
];

pub(super) static SONGS: [&str; 6] = [
    "a quiet song",
    "a song about the sea",
    "an old tune",
    "a merry song",
    "the song of the harvest",
    "a lullaby",
];

/// What a neighbour knows; all of it is about one thing.
pub(super) static ANSWERS: [&str; 8] = [
    "I have not seen it",
    "You must ask somebody else",
    "It was here yesterday",
    "A thief took it",
    "Perhaps the wind knows",
    "Follow the path",
    "Come back tomorrow",
    "Nobody finds it twice",
];
