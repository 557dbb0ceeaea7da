# SPDX-License-Identifier: Apache-2.0
"""The nouns, colours, words, places and fonts of the demo world."""

SHAPES = ["circle", "square", "triangle", "star", "heart", "cross"]

COLORS = {
    "red": (220, 30, 30), "orange": (255, 135, 0), "yellow": (248, 212, 0),
    "green": (25, 150, 50), "blue": (35, 80, 225), "purple": (130, 45, 170),
    "pink": (255, 120, 185), "black": (20, 20, 20),
}
COLOR_NAMES = list(COLORS)
TEXT_COLORS = ["red", "orange", "green", "blue", "purple", "black"]

EMOJI = {
    "cat": "🐱", "dog": "🐶", "pig": "🐷", "frog": "🐸", "monkey": "🐵", "lion": "🦁",
    "panda": "🐼", "chicken": "🐔", "penguin": "🐧", "fish": "🐟", "octopus": "🐙",
    "turtle": "🐢", "bee": "🐝", "butterfly": "🦋", "elephant": "🐘", "crab": "🦀",
    "owl": "🦉", "snail": "🐌", "apple": "🍎", "banana": "🍌",
    "carrot": "🥕", "mushroom": "🍄", "pizza": "🍕", "burger": "🍔",
    "donut": "🍩", "cake": "🎂", "tree": "🌳", "cactus": "🌵", "rose": "🌹",
    "sunflower": "🌻", "car": "🚗", "bus": "🚌", "bike": "🚲",
    "rocket": "🚀", "boat": "⛵", "helicopter": "🚁", "house": "🏠",
    "tent": "⛺", "sun": "☀", "moon": "🌙", "flame": "🔥",
    "rainbow": "🌈", "umbrella": "☂", "ball": "⚽", "basketball": "🏀", "balloon": "🎈",
    "gift": "🎁", "guitar": "🎸", "key": "🔑", "lock": "🔒", "bell": "🔔",
    "clock": "⏰", "camera": "📷", "lamp": "💡", "hammer": "🔨",
    "book": "📖", "pencil": "✏", "crown": "👑", "hat": "🎩", "gem": "💎",
    "robot": "🤖", "ghost": "👻", "snowman": "⛄", "cup": "☕",
}
CLASSES = SHAPES + list(EMOJI)          # class index = position; shapes come first
SHAPE_COUNT = len(SHAPES)

WORDS = [
    "stop", "open", "exit", "sale", "cafe", "taxi", "hotel", "park", "shop", "bank",
    "help", "hello", "love", "music", "push", "pull", "food", "ice", "milk", "tea",
    "yes", "wait", "slow", "fast", "left", "right", "up", "down", "home", "zoo",
    "rain", "snow", "gold", "news", "free", "school",
]

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"

NUMBER_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight",
                "nine", "ten"]

ROWS = ["top", "middle", "bottom"]
COLUMNS = ["left", "center", "right"]
PLACES = ["top left", "top center", "top right", "middle left", "center",
          "middle right", "bottom left", "bottom center", "bottom right"]

_T = "/usr/share/fonts/truetype/"
TRAIN_FONTS = [
    _T + "dejavu/DejaVuSans-Bold.ttf", _T + "dejavu/DejaVuSerif-Bold.ttf",
    _T + "dejavu/DejaVuSansMono-Bold.ttf", _T + "dejavu/DejaVuSans.ttf",
    _T + "liberation/LiberationSans-Bold.ttf", _T + "liberation/LiberationSerif-Bold.ttf",
    _T + "liberation/LiberationMono-Bold.ttf", _T + "roboto/unhinted/RobotoTTF/Roboto-Bold.ttf",
    _T + "roboto/unhinted/RobotoTTF/Roboto-Black.ttf", _T + "lato/Lato-Bold.ttf",
    _T + "lato/Lato-Black.ttf", _T + "freefont/FreeSerifBold.ttf",
    _T + "crosextra/Carlito-Bold.ttf", _T + "firacode/FiraCode-Bold.ttf",
    _T + "quicksand/Quicksand-Bold.ttf", _T + "inconsolata/Inconsolata.otf",
]
HELD_OUT_FONTS = [          # never trained on: reading is measured on these apart
    _T + "open-sans/OpenSans-Bold.ttf", _T + "crosextra/Caladea-Bold.ttf",
    _T + "hack/Hack-Bold.ttf", "/usr/share/fonts/opentype/cantarell/Cantarell-Bold.otf",
]
EMOJI_FONT = _T + "noto/NotoColorEmoji.ttf"
FONT_PACKAGES = ("fonts-noto-color-emoji fonts-dejavu fonts-liberation fonts-roboto "
                 "fonts-lato fonts-freefont-ttf fonts-crosextra-carlito fonts-firacode "
                 "fonts-quicksand fonts-inconsolata fonts-open-sans "
                 "fonts-crosextra-caladea fonts-hack fonts-cantarell")


def article(noun: str) -> str:
    """`noun` with its indefinite article: "a cat", "an owl"."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun
