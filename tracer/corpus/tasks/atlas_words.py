"""The words of the toy atlas: states with their cities and attributes, names, nouns, years, words in three languages.

Facts about states (capital, official bird, census region) are true ones, so that a reader can check a circuit by eye.
Every entry is one whitespace-free word, because the atlas has a word-level vocabulary.
"""

from typing import NamedTuple


class State(NamedTuple):
    """One state: its one-word attributes and six one-word cities, none of them the capital."""

    name: str
    capital: str
    bird: str
    region: str
    cities: tuple[str, ...]


N_SEEN_CITIES = 4
"""The first four cities of a state occur in two-hop sentences of the training text; the others never do."""

_STATE_LINES = """
Alabama Montgomery yellowhammer South Birmingham Huntsville Mobile Tuscaloosa Hoover Dothan
Alaska Juneau ptarmigan West Anchorage Fairbanks Sitka Ketchikan Wasilla Kodiak
Arizona Phoenix wren West Tucson Mesa Chandler Scottsdale Tempe Flagstaff
California Sacramento quail West Oakland Fresno Anaheim Stockton Irvine Bakersfield
Colorado Denver bunting West Boulder Pueblo Aurora Lakewood Greeley Durango
Florida Tallahassee mockingbird South Miami Tampa Orlando Jacksonville Pensacola Sarasota
Georgia Atlanta thrasher South Savannah Macon Athens Marietta Valdosta Roswell
Hawaii Honolulu nene West Hilo Kailua Waipahu Kahului Lahaina Kaneohe
Idaho Boise bluebird West Nampa Pocatello Caldwell Moscow Lewiston Meridian
Illinois Springfield cardinal Midwest Chicago Naperville Peoria Joliet Rockford Evanston
Indiana Indianapolis cardinal Midwest Evansville Gary Muncie Bloomington Carmel Fishers
Kansas Topeka meadowlark Midwest Wichita Olathe Lawrence Salina Manhattan Emporia
Kentucky Frankfort cardinal South Louisville Lexington Owensboro Paducah Covington Hopkinsville
Maryland Annapolis oriole South Baltimore Rockville Frederick Bethesda Hagerstown Gaithersburg
Massachusetts Boston chickadee Northeast Worcester Cambridge Lowell Brockton Quincy Lynn
Michigan Lansing robin Midwest Detroit Flint Dearborn Kalamazoo Saginaw Warren
Montana Helena meadowlark West Billings Missoula Bozeman Butte Kalispell Havre
Nebraska Lincoln meadowlark Midwest Omaha Bellevue Kearney Fremont Hastings Norfolk
Ohio Columbus cardinal Midwest Cleveland Cincinnati Toledo Akron Dayton Canton
Oregon Salem meadowlark West Portland Eugene Gresham Hillsboro Bend Medford
Pennsylvania Harrisburg grouse Northeast Philadelphia Pittsburgh Allentown Erie Scranton Reading
Tennessee Nashville mockingbird South Memphis Knoxville Chattanooga Clarksville Murfreesboro Franklin
Texas Austin mockingbird South Dallas Houston Laredo Lubbock Amarillo Plano
Virginia Richmond cardinal South Roanoke Chesapeake Alexandria Hampton Lynchburg Suffolk
Washington Olympia goldfinch West Seattle Spokane Tacoma Everett Yakima Redmond
Wisconsin Madison robin Midwest Milwaukee Racine Kenosha Appleton Oshkosh Waukesha
"""


def _state(line: str) -> State:
    name, capital, bird, region, *cities = line.split()
    return State(name, capital, bird, region, tuple(cities))


STATES: tuple[State, ...] = tuple(_state(line) for line in _STATE_LINES.split("\n") if line)
STATE_BY_NAME: dict[str, State] = {state.name: state for state in STATES}
STATE_BY_CITY: dict[str, State] = {city: state for state in STATES for city in state.cities}


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((left, right) for left, _, right in (pair.partition("/") for pair in text.split()))


MALE_NAMES = _words(
    "John James Robert Michael David Thomas Daniel Paul Mark Kevin Brian Peter Henry Adam Simon Victor Oscar Felix"
)
FEMALE_NAMES = _words(
    "Mary Linda Susan Karen Nancy Lisa Anna Emma Laura Sarah Alice Julia Clara Diana Helen Irene Nora Ruth"
)
NAMES = MALE_NAMES + FEMALE_NAMES
PLACES = _words("store park school office garden station library market museum harbor")
OBJECTS = _words("book ball drink letter ring basket ticket flower hammer lamp")

NOUNS = _pairs("""
    key/keys cabinet/cabinets dog/dogs table/tables farmer/farmers tree/trees pilot/pilots bridge/bridges
    teacher/teachers window/windows horse/horses river/rivers doctor/doctors chair/chairs singer/singers
    tower/towers painter/painters wagon/wagons lawyer/lawyers mirror/mirrors cat/cats fence/fences
    baker/bakers road/roads
""")
VERBS: tuple[tuple[str, str], ...] = (("is", "are"), ("was", "were"), ("has", "have"))

EVENTS = _words("war treaty voyage trial strike reign siege famine truce exile")
CENTURIES = _words("11 12 13 14 15 16 17 18")
YEARS = tuple(f"{year:02d}" for year in range(100))

ANTONYMS = {
    "english": _pairs("""
        big/small hot/cold happy/sad fast/slow old/young rich/poor strong/weak light/dark clean/dirty
        open/closed full/empty good/bad high/low hard/soft dry/wet
    """),
    "spanish": _pairs("""
        grande/pequeño caliente/frío feliz/triste rápido/lento viejo/joven rico/pobre fuerte/débil claro/oscuro
        limpio/sucio abierto/cerrado lleno/vacío bueno/malo alto/bajo duro/blando seco/mojado
    """),
    "french": _pairs("""
        grand/petit chaud/froid heureux/malheureux rapide/lent vieux/jeune riche/pauvre fort/faible clair/sombre
        propre/sale ouvert/fermé plein/vide bon/mauvais haut/bas dur/mou sec/mouillé
    """),
}
"""Per language, pairs of opposites; the same place means the same concept in every language."""
LANGUAGES = tuple(ANTONYMS)
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words("January February March April May June July August September October November December")

SPECIAL_TOKENS = ("<pad>", "<bos>", "<unk>")
SENTENCE_END = "."
