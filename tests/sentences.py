"""Ten English sentences without digits, for synthesis and speech recognition; and texts without words."""

SENTENCES = (
    "The old lighthouse keeper climbed the stairs every evening before the sun went down.",
    "Please remember to close the window when you leave the office tonight.",
    "She opened the letter slowly, because she already knew what it would say.",
    "A good cup of coffee can change the whole morning.",
    "We walked along the river until the lights of the city disappeared behind us.",
    "If the weather stays warm, we will have dinner in the garden this weekend.",
    "The train to the coast was late again, so we waited in the station for an hour.",
    "My brother plays the piano, but he has never learned to read music.",
    "Nobody in the village could remember when the bridge had been built.",
    "Thank you for listening, and have a pleasant journey home.",
)

# Turns of an agent of which cleaning leaves nothing to say.
WORDLESS = ("\N{THUMBS UP SIGN}", "...", "---", "```py\nx = 1\n```", " \n\t", "", "?!", "\u200b", "<br>")
