"""Closed lists of English words: what a caption counts, colours, describes and shows, and what holds it together.

All lower case. They are short on purpose: a word that is missing is left alone, which costs a change, while a word in
the wrong list makes nonsense of a caption.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NUMBERS = _words("two three four five six seven eight nine ten eleven twelve")
"""From two up, so that the noun keeps its plural."""

COLOURS = _words(
    """
    red green blue yellow purple pink brown black white grey gray violet turquoise maroon teal cyan magenta beige
    """
)
UNSURE_COLOURS = _words("orange gold golden silver tan bronze copper cream")
"""Colours only in front of a noun: an orange is a fruit."""

SIZES = _words("big large huge giant enormous massive small little tiny")
EXTENTS = _words("long short tall wide narrow thin thick")
AGES_OF_THE_LIVING = _words("old elderly young")
AGES_OF_THINGS = _words("old new modern antique vintage")
MATERIALS = _words(
    """
    wooden metal plastic glass leather brick stone concrete cardboard marble steel iron rubber paper
    """
)
SHAPES = _words("round circular square rectangular oval triangular")
CONDITIONS = (
    _words("wet dry"),
    _words("open closed"),
    _words("empty full"),
    _words("clean dirty"),
    _words("sunny cloudy rainy snowy"),
)
PLAIN_ADJECTIVES = _words(
    """
    active aged beautiful big bright calm cartoon classic classical colored colorful coloured colourful common cool
    cooked cute dark decorative different double electric famous fancy fat female fluffy flying fresh fried friendly
    funny furry good great grilled hairy half happy heavy high hot lone lonely lovely low main male many messy
    military mixed multi multicolored nice odd other ornate painted pale pretty purebred quiet rare raw real ripe
    rustic sad same sharp shiny silly simple single sleepy sliced small snowy soft solid standard stormy strange
    striped stuffed stylized sweet tasty traditional typical various warm wild
    """
)
"""They may stand between an article and its noun; they are not changed."""

PEOPLE = _words("man woman boy girl guy lady gentleman bride groom child kid baby toddler")
"""Only words for whom one sees: what a surfer does, a batter does not."""

ANIMALS = _words(
    """
    antelope bear bee bison buffalo bull butterfly camel cat cheetah chicken cow crab crow deer dog dolphin donkey
    duck eagle elephant fox frog giraffe goat goose gorilla hamster hawk hedgehog hen hippo horse kangaroo koala
    ladybug leopard lion lizard lobster monkey moose ostrich owl panda parrot peacock pelican penguin pig pigeon
    pony puppy rabbit raccoon rat rhino rooster seagull seal shark sheep snail snake spider squirrel swan tiger
    turkey turtle whale wolf wombat zebra kitten bird fish
    """
)
VEHICLES = _words(
    """
    airplane ambulance bicycle bike boat bus canoe car carriage ferry helicopter jeep kayak limousine moped
    motorbike motorcycle plane rocket sailboat scooter ship submarine taxi tractor train tram trolley truck van
    wagon yacht jet
    """
)
FOODS = _words(
    """
    apple bagel banana burger burrito cake carrot cookie croissant cupcake donut doughnut hamburger hotdog muffin
    omelet onion pancake pear pepper pie pineapple pizza potato pumpkin salad sandwich strawberry taco tomato waffle
    watermelon
    """
)
STUFFS_TO_EAT = _words(
    """
    bacon beef bread broccoli butter cheese chocolate corn fruit ham lettuce meat pasta rice sauce soup
    """
)
DRINKS = _words("beer coffee juice lemonade milk soda tea water wine")
FURNITURE = _words(
    """
    bed bench bookcase bookshelf chair couch crib cupboard desk dresser sofa stool table wardrobe armchair
    """
)
FITTINGS = _words(
    """
    bathtub cabinet counter dishwasher fireplace freezer fridge microwave oven refrigerator shower sink stove toilet
    tub
    """
)
DEVICES = _words(
    """
    camera calculator clock computer keyboard lamp laptop microphone monitor phone printer radio speaker telephone
    television tv cellphone smartphone
    """
)
TABLEWARE = _words(
    """
    basket bottle bowl cup dish fork jar jug kettle knife mug pan pitcher plate pot spoon tray vase
    """
)
CLOTHES = _words(
    """
    apron cap coat dress hat helmet hoodie jacket scarf shirt skirt suit sweater tie uniform vest sweatshirt
    """
)
WORN_IN_PAIRS = _words(
    """
    boots gloves goggles jeans pants shoes shorts socks sunglasses trousers sneakers
    """
)
SPORTS_GEAR = _words("bat frisbee kite racket racquet skateboard snowboard surfboard paddle kiteboard")
INSTRUMENTS = _words(
    """
    accordion banjo cello clarinet drum flute guitar harp piano saxophone trombone trumpet violin
    """
)
ROOMS = _words("attic bathroom basement bedroom classroom garage hallway kitchen office kitchenette restaurant")
PLACES = _words(
    """
    airport beach bridge city court desert farm field forest garden harbor hill lake lawn market meadow
    mountain ocean park pasture playground pond pool river road sea sidewalk station street town village
    yard zoo
    """
)
BUILDINGS = _words(
    """
    barn castle church hotel house lighthouse skyscraper temple tent tower windmill school hospital
    """
)
PLANTS = _words("bush cactus daisy flower lily mushroom palm rose sunflower tree tulip")
BODY_PARTS = _words("arm ear eye face finger foot hand head knee leg mouth neck nose shoulder tail tongue")
GROUNDS = _words("dirt grass gravel mud sand snow")
BAGS = _words("backpack bag briefcase handbag luggage purse suitcase umbrella")
PARTS_OF_BUILDINGS = _words("ceiling curtain door fence gate mirror pillar pole roof stairs wall window")
SHAPES_DRAWN = _words("arrow circle diamond heart hexagon oval rectangle square star triangle")

SORTS_OF_OBJECTS = {
    "animal": ANIMALS,
    "vehicle": VEHICLES,
    "food": FOODS,
    "stuff to eat": STUFFS_TO_EAT,
    "drink": DRINKS,
    "furniture": FURNITURE,
    "fitting": FITTINGS,
    "device": DEVICES,
    "tableware": TABLEWARE,
    "garment": CLOTHES,
    "worn in pairs": WORN_IN_PAIRS,
    "sports gear": SPORTS_GEAR,
    "instrument": INSTRUMENTS,
    "room": ROOMS,
    "place": PLACES,
    "building": BUILDINGS,
    "plant": PLANTS,
    "body part": BODY_PARTS,
    "ground": GROUNDS,
    "bag": BAGS,
    "part of a building": PARTS_OF_BUILDINGS,
    "drawn shape": SHAPES_DRAWN,
}

ALIKE = tuple(
    frozenset(words.split())
    for words in (
        "grey gray silver",
        "gold golden yellow",
        "tan beige brown bronze copper",
        "cream white beige",
        "purple violet magenta",
        "pink magenta",
        "red maroon",
        "blue teal turquoise cyan",
        "green teal turquoise",
        "orange copper",
        "big large huge giant enormous massive",
        "small little tiny",
        "long tall",
        "old elderly",
        "old antique vintage",
        "new modern",
        "wide thick",
        "narrow thin",
        "round circular oval",
        "square rectangular rectangle",
        "steel iron metal",
        "stone concrete brick marble",
        "cardboard paper",
        "rainy cloudy snowy",
        "man guy gentleman boy groom",
        "woman lady girl bride",
        "child kid baby toddler boy",
        "child kid baby toddler girl",
        "cat kitten",
        "dog puppy",
        "cow bull bison buffalo",
        "horse pony donkey",
        "chicken hen rooster",
        "rat hamster",
        "leopard cheetah tiger",
        "airplane plane jet",
        "bike bicycle",
        "bike motorcycle motorbike moped scooter",
        "train tram trolley",
        "carriage wagon",
        "car taxi jeep limousine",
        "truck van",
        "donut doughnut bagel",
        "burger hamburger sandwich",
        "cake cupcake muffin pie",
        "meat bacon beef ham chicken",
        "couch sofa armchair",
        "chair armchair stool",
        "bookcase bookshelf",
        "desk table",
        "cupboard wardrobe dresser",
        "fridge refrigerator freezer",
        "tub bathtub",
        "stove oven microwave",
        "computer laptop monitor",
        "phone telephone cellphone smartphone",
        "tv television monitor",
        "cup mug",
        "bowl dish plate",
        "jug pitcher jar kettle",
        "pan pot",
        "coat jacket",
        "shirt sweater sweatshirt hoodie vest",
        "cap hat helmet",
        "suit uniform",
        "boot shoe sneaker",
        "jean pant trouser",
        "sunglass goggle",
        "racket racquet paddle",
        "kite kiteboard",
        "ocean sea beach",
        "lake pond pool river",
        "street road sidewalk",
        "city town village",
        "field meadow pasture lawn farm",
        "garden yard lawn park",
        "hill mountain",
        "kitchen kitchenette",
        "church temple",
        "face head",
        "grass field lawn",
        "rock stone",
        "item object thing",
        "trail path",
        "baggage luggage suitcase briefcase bag",
        "bag handbag purse backpack",
        "dirt gravel mud sand",
        "pillar pole",
        "door gate",
        "fence gate wall",
        "carpet rug",
    )
)
"""Words of which one may be true where another of its line is."""

_BIRDS = _words(
    """
    chicken crow duck eagle goose hawk hen ostrich owl parrot peacock pelican penguin pigeon rooster seagull swan
    turkey
    """
)
KINDS_OF = {
    "bird": _BIRDS,
    "boat": _words("canoe ferry kayak sailboat ship yacht"),
    "building": BUILDINGS,
    "fish": _words("dolphin shark whale"),
    "flower": _words("daisy lily rose sunflower tulip"),
    "ship": _words("ferry sailboat yacht"),
    "tower": _words("castle church lighthouse skyscraper"),
    "tree": _words("bush palm"),
}
"""Where the kind is true, so is its heading."""

DETERMINERS = _words("a an the this that these those some any each every another no")
POSSESSIVES = _words("my your his her its our their")
PREPOSITIONS = _words(
    """
    about above across against along alongside amid among around as at atop before behind below beneath beside
    besides between beyond by down during for from in inside into like near of off on onto out outside over past
    through toward towards under underneath until up upon via with within without
    """
)
JOINING = _words("and or nor but plus")
AUXILIARIES = _words(
    """
    am are be been being can cannot could did do does had has have is may might must shall should was were will
    would isn't aren't doesn't don't
    """
)
PRONOUNS = _words(
    """
    i you he she it we they me him us them who whom whose which what that there here himself herself itself
    themselves one ones someone something everyone everything nothing anyone anything
    """
)
GENDERED = _words("he she his her hers him himself herself")
OTHER_SMALL_WORDS = _words(
    """
    to not while when where how why if because so than then too also very just only still almost about away back
    together apart again ahead next now always often never all both few several more most less much lots such own
    other others using during well out up down off over side top bottom front middle left right forward upside
    sideways
    """
)
SMALL_WORDS = (
    DETERMINERS | POSSESSIVES | PREPOSITIONS | JOINING | AUXILIARIES | PRONOUNS | GENDERED | OTHER_SMALL_WORDS
)

VERBS = _words(
    """
    appear approach arrive attach attempt bake balance bite board bounce brush build carry catch celebrate chase
    check chew climb close come compete consist contain cook cover crash cross cut dance decorate display dive drink
    drive eat enjoy face fall fill float fly follow gather gaze get give go grab graze greet grow hang have head hit
    hold hover include jump keep kick kiss kneel land laugh lay lead lean leap learn leave lick lie light line load
    look make mount move open overlook pass paste perch perform pet pick place play point pose prepare pull push put
    race reach read ready rest ride roll run sail say see seem sell serve share shine shoot show sit skate ski sleep
    slice slide smell smile sniff spread stand stare start stay step stick stop stretch strike surf surround swim
    swing take talk tie top touch train travel trot try turn use wait walk wander watch wave wear win work write
    """
)
IRREGULAR_VERB_FORMS = _words(
    """
    ate bent bit bitten bought broken brought built came caught cut done drank drawn driven drove eaten fed fell
    felt flew flown found gave given gone got grown held hung kept laid lain lay led left lit lying made met parked
    put ran rode ridden said sat saw seen set shot shown slept spread stood stuck swam taken threw thrown tied took
    torn went won wore worn woven written
    """
)
NOUNS_IN_ING = _words(
    """
    awning bearing being building ceiling clothing crossing drawing earring evening icing king landing lightning
    morning offspring opening painting ping railing ring sibling siding sling spring string swing thing topping
    wedding wing
    """
)
NOUNS_IN_ED = _words("bed reed seed shed sled weed bobsled moped hundred")

HALF_ADJECTIVES = _words("colored coloured covered filled lined shaped sized topped")
"""With the noun before them they describe another: a snow covered hill."""

VAGUE_NOUNS = _words(
    """
    adult air amount animal area arrangement art aspect assortment attempt author background bit bite body bunch
    case center centre clip clipart close collection color colour combination company contrast copy corner country
    couple crowd day depiction design detail display distance domain drawing edge effort element end evening example
    eps family field file flight flock food foreground form front game graphic ground group half height herd history
    icon idea illustration image item job kind language length letter level licence license life line link list load
    logo lot meal means member middle moment morning motion name nation night number object order outline pack
    package page pair part party past people person photo photograph picture piece pile place plenty png point
    portion portrait position project purpose quarter reason rest room row scene series set setting shape shot show
    side sign silhouette size slice sort spot stack stage state style svg symbol team theme thing time title top
    type use user variety vehicle version view way weight word work world year
    """
)
"""Nouns that say little of what a picture shows, or that would still be true after many a change."""

FIXED_PAIRS = _words(
    """
    big_ben full_length full_moon full_size full_view high_school hot_chocolate hot_dog hot_dogs ice_cream iron_man
    little_league long_sleeve new_jersey new_mexico new_orleans new_year new_york new_zealand open_mouth orange_juice
    orange_peel orange_slice orange_slices orange_tree orange_trees paper_towel paper_towels polar_bear polar_bears
    short_cut short_sleeve square_dance square_feet teddy_bear teddy_bears toilet_paper
    """
)
"""Two words that mean one thing: neither is exchanged."""

IRREGULAR_PLURALS = {
    "calf": "calves",
    "child": "children",
    "die": "dice",
    "foot": "feet",
    "gentleman": "gentlemen",
    "goose": "geese",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "shelf": "shelves",
    "ski": "skis",
    "taxi": "taxis",
    "tooth": "teeth",
    "tv": "tvs",
    "wolf": "wolves",
    "woman": "women",
}
NOUNS_IN_IE = _words("birdie brownie calorie cookie hoodie movie prairie selfie smoothie zombie")
WITH_OES_IN_PLURAL = _words("buffalo echo hero mango mosquito potato tomato tornado torpedo volcano")
SAME_IN_PLURAL = _words("bison buffalo deer fish moose salmon sheep shrimp trout")
SINGULAR_IN_S = _words(
    """
    atlas bias bus canvas cactus chess christmas dress gas glass grass lens mattress octopus tennis walrus
    wilderness
    """
)
