"""Abbreviations after which a sentence goes on, by language.

In: the name of a language. Out: a set of words. Does not know: texts.

Titles, months, companies, references: what nearly always has something after it. "etc." and its like often
end a sentence too; there a pause too few is better than a name cut in two. Where an abbreviation is also an
ordinary word (English "No.", German "Art."), it counts before a number only (``BEFORE_NUMBERS``). A word in
lower case stands for all cases, one with a capital only for itself ("Mon." is no "mon").
"""

from functools import cache


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_EVERYWHERE = _words("dr mr mrs ms prof st vs etc ph inc ltd co corp gmbh p pp vol cf bros messrs")
_ENGLISH = """
    mx drs rev hon gov sen Rep Gen Col capt cmdr lt sgt supt sr jr Mt Fr
    Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Mon Tue Tues Wed Thu Thur Thurs Fri
    llc assn dept univ vols nos Fig figs eqn eds al approx ca viz ibid
"""
_BY_LANGUAGE = {
    "English": _ENGLISH,
    # Their texts quote names in English.
    **dict.fromkeys(("Chinese", "Japanese", "Korean"), _ENGLISH),
    "German": """
        hr hrn Fr frl dipl ing mag priv doz Jan Febr Feb Mrz Apr Jun Jul Aug Sept Sep Okt Nov Dez Mo Di Mi Do
        abb nr nrn bd bde hrsg vgl bzw ca usw evtl ggf inkl exkl zzgl sog bspw geb gest str tel Abs kap ff jh
    """,
    "French": """
        mme mmes mlle mlles mm mgr pr ste janv févr fevr avr juill juil oct nov déc dec
        cie ets chap fig av env ex éd éds ibid réf tél bd cap
    """,
    "Spanish": """
        sr sra sres sras srta srtas dra dres dña profa lic ing arq ud uds vd vds sto sta ilmo excmo
        ene feb abr jun jul ago sept oct nov dic cía cia ltda hnos
        pág págs pag art arts cap núm núms num fig ej cfr aprox tel avda av ed eds
    """,
    "Italian": """
        sig sigg sig.ra sig.na dott dott.ssa prof.ssa avv ing arch geom rag on genn gen febbr feb apr magg giu
        lug sett ott nov dic soc pag pagg art artt cap capp fig es ecc cfr ca tab sez ed tel
    """,
    "Portuguese": """
        sr sra srs sras srta dra drs profa eng exmo exma jan fev abr jun jul ago nov cia ltda
        pág págs pag art arts cap núm num fig ex aprox tel av ed
    """,
    "Russian": """
        проф акад им ул просп пер гг др пр стр рис табл гл ср см напр тыс тел
        янв февр апр авг сент окт нояб дек
    """,  # noqa: RUF001 - Cyrillic
}
# With "Auto" the language is not known: these are ordinary words of another one.
_WORDS_ELSEWHERE = _words("""
    al arch art arts av ago ca cap ed eng env es ex ff fig gen ing mag me mm num on pr rag sig soc sto str
    tab Abs Col Di Do Fr Mar Mi Mo
""")
BEFORE_NUMBERS = _words("no nos art arts fig sec ch app nr abs set out dez mar sept n")


@cache
def abbreviations_of(language: str) -> frozenset[str]:
    """``language``: an English name; any other, Auto too, gives those of all that are no words elsewhere."""
    if language in _BY_LANGUAGE:
        return _EVERYWHERE | _words(_BY_LANGUAGE[language])
    return _EVERYWHERE | _words(" ".join(_BY_LANGUAGE.values())) - _WORDS_ELSEWHERE
