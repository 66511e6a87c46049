"""The word lists and sentence patterns that the built-in world is made of; all written for it."""

# ruff: noqa: SIM905 (a quoted word a line would hide the lists in their quotes)

FIRST_HEADS = (
    "Al Bar Cor Dan Els Fen Gar Hel Ilm Jor Kal Lor Mar Nel Ost Pel Quin Ras Sel Tam Ul Ver Wil Xan Yor Zel"
).split()
FIRST_TAILS = "a ador ane ara bert den dis een el eth ian ica ild ine ira mund o ora ric win".split()
LAST_HEADS = "Ash Birch Cold Dun Elder Fox Grey Hart Iron Marsh Oak Raven Stone Thorn Wade Wren".split()
LAST_TAILS = "bank born croft dale field ford grave hurst ley more wick wood".split()
TOWN_HEADS = "Amber Brack Cliff Dray Ever Frost Glen Holm Kings Lake Mill North Pine Rook Salt Wolf".split()
TOWN_TAILS = "bourne bury by combe fell gate haven mouth port stead ton worth".split()

BELONGINGS = (
    "almanac amulet anvil astrolabe banner bell brooch candlestick chalice cloak compass crown dagger diary "
    "drum fiddle flute goblet harp hourglass kettle lantern ledger locket lute mask mirror necklace pendant "
    "quill ring sextant shield spyglass staff sword telescope violin whistle wreath"
).split()

PLACE_SIDES = "above behind below beside inside under".split()
PLACE_KINDS = (
    "ancient blue broken carved copper crooked dusty empty fallen frozen golden green grey hidden hollow "
    "humble ivory leaning little locked lonely marble mossy narrow old painted red ruined silent silver "
    "sunken white"
).split()
PLACE_NOUNS = (
    "altar arch attic bakery barn bridge cabin cellar chapel chimney cistern cottage dovecote fountain "
    "furnace gatehouse granary hayloft ladder library mill oven pantry quarry shed stable stairway statue "
    "tower well"
).split()

TRADE_ACTS = (
    "binding boiling brewing carving dyeing forging gilding hauling mending painting polishing selling "
    "sewing sorting trading weaving"
).split()
TRADE_GOODS = (
    "barrels baskets boots candles carpets clocks gloves hats kites maps nets puppets ropes saddles sails "
    "wigs"
).split()

BEAST_KINDS = "bald brown fat gentle lame one-eyed shy spotted striped tame tiny wild".split()
BEASTS = (
    "badger bear cat crow deer dog donkey falcon ferret goat goose hare hedgehog lizard mule otter owl "
    "parrot pony tortoise"
).split()

FILLER_SLOTS: dict[str, list[str]] = {
    "time": "At dawn|At dusk|At midnight|At noon|Before supper|By candlelight|In autumn|In spring|In winter|"
    "Late that week|Long ago|One evening|That morning|The next day|Toward harvest|Years later".split("|"),
    "who": "a beggar|a captain|a clerk|a cousin|a fisherman|a nun|a pedlar|a sailor|a scholar|a shepherd|"
    "a soldier|a stranger|a widow|the mayor|the miller|the priest".split("|"),
    "act": "argued about|asked about|boasted of|complained about|dreamed of|forgot|joked about|lied about|"
    "praised|remembered|sang about|sighed over|spoke of|wept over|whispered about|wrote about".split("|"),
    "topic": "an old debt|an unpaid bill|the broken wheel|the cold soup|the coming war|the empty purse|"
    "the failed harvest|the great flood|the king's taxes|the late wedding|the lost letter|the missing key|"
    "the price of salt|the rusty gate|the sick horse|the stolen bread".split("|"),
    "sky": "fog|frost|hail|heavy rain|mist|moonlight|pale sunshine|shadow|sleet|smoke|snow|starlight|"
    "storm clouds|thin clouds|thunder|warm wind".split("|"),
    "land": "the beach|the canal|the cliffs|the crossroads|the fields|the forest|the harbour|the hills|"
    "the market|the meadow|the moor|the orchard|the river|the road|the valley|the village".split("|"),
    "mood": "angry|anxious|ashamed|bored|calm|cheerful|curious|grateful|hungry|jealous|lonely|merry|proud|"
    "restless|sleepy|weary".split("|"),
    "item": "apples|bread|butter|cheese|cider|coins|eggs|figs|firewood|honey|nails|onions|plums|soap|wine|"
    "wool".split("|"),
    "count": "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|"
    "sixty".split("|"),
}

FILLERS = [
    "{time} {who} {act} {topic}.",
    "{time} {sky} lay over {land}, and nobody was {mood}.",
    "There was {sky} above {land} for {count} days.",
    "{time} {first} felt {mood} and walked down to {land}.",
    "With {count} coins {first} bought {item} from {who}.",
    "No one had seen {who} near {land} since the {item} ran out.",
    "{first} was {mood}, for {who} {act} {topic}.",
    "They traded {count} crates of {item} for a sack of {item2}.",
    "{time} the talk turned to {topic}, and {first} grew {mood}.",
    "{sky2} came down on {land} while {who} counted the {item}.",
    "A letter from {who} spoke of {sky} and of {topic}.",
    "It took {count} hours to cross {land} in the {sky}.",
    "Everyone near {land} was {mood} because of {topic}.",
    "{first} gave {item} to {who} and kept the {item2}.",
    "{time} {count} carts of {item} went past {land}.",
    "To hide {topic}, {first} told {who} about the {sky}.",
]

CHARACTER_FACTS: dict[str, tuple[str, str, tuple[str, str, str]]] = {
    "place": (
        "Where does {name} keep the {thing}?",
        "{place}",
        (
            "{name} keeps the {thing} {place}.",
            "Nobody knew that the {thing} of {name} lay {place}.",
            "The {thing} that {name} treasures is {place}.",
        ),
    ),
    "trade": (
        "How does {name} earn money?",
        "{trade}",
        (
            "{name} earns money {trade}.",
            "For money {name} spends the days {trade}.",
            "All know that {name} makes a living {trade}.",
        ),
    ),
    "beast": (
        "Which animal follows {name}?",
        "{beast}",
        (
            "Everywhere {name} goes, {beast} follows.",
            "{name} is followed by {beast}.",
            "Behind {name} there always walks {beast}.",
        ),
    ),
    "birth": (
        "In which town was {name} born?",
        "{town}",
        (
            "{name} was born in {town}.",
            "It was in {town} that {name} was born.",
            "The birth of {name} is written in the book of {town}.",
        ),
    ),
}
"""Fact to its question, its answer and three wordings of it in prose."""

DIALOGUE = '"{question}" asked {who}. "{answer}," came the answer.'

SUBJECT_KINDS = "abbey castle fair garden guild harbour island lighthouse market museum school ship".split()
FAME_KINDS = "bitter bright cheap enormous fragrant heavy rare sour sweet tall thick yellow".split()
FAME_THINGS = (
    "apricots beer bells bricks cabbages cakes chairs curtains dolls ink lace lamps lilies mustard organs "
    "pears pickles ribbons roses tiles"
).split()
SITE_SIDES = "east north south west".split()
SITE_KINDS = "bare broad deep dry low marshy round sandy steep stony sunny windy".split()
SITE_NOUNS = "bay cape delta desert dune glacier lagoon plateau ravine reef ridge spring".split()
RULE_ACTS = "bring carry eat feed hide play ring spill throw touch wear whistle".split()
RULE_THINGS = "boats cards dice drums fish flags garlic geese jewels milk pigs tobacco".split()
FEAST_TIMES = "first second third fourth fifth sixth seventh last".split()
FEAST_MONTHS = "January February March April May June July August September October November December".split()
FEAST_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

SUBJECT_FACTS: dict[str, tuple[str, str, str]] = {
    "fame": ("What is {subject} famous for?", "{fame}", "{Subject} is famous for {fame}."),
    "site": ("Where does {subject} lie?", "{site}", "It lies {site}."),
    "rule": ("What is forbidden at {subject}?", "{rule}", "By an old statute it is forbidden {rule} there."),
    "feast": ("When does {subject} celebrate?", "{feast}", "The yearly celebration falls {feast}."),
}
"""Fact to its question, its answer and its sentence in an article."""

ARTICLE_FILLERS = [
    "{Subject} was founded in {year} and has {count} members.",
    "The main building was restored in {year}.",
    "Its archive holds {count} volumes.",
    "According to the census of {year}, about {count} people lived nearby.",
    "The seal shows a {emblem} on a {colour} ground.",
    "Repairs in {year} cost {count} thousand crowns.",
]
EMBLEMS = "crescent eagle fish gryphon hammer lion oak rose ship star stag wheel".split()
COLOURS = "black blue crimson gold green purple silver white".split()
