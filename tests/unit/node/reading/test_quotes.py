from pathlib import Path

import pytest

from ainode.node import testing
from ainode.node.encoding import headers
from ainode.node.reading.quotes import quotes_patient

CASES = {
    ("Hopper^Grace", "4711"): {
        "": False,
        "3 nodules": False,
        "4.711 mm": False,
        "Grace has 3 nodules": True,
        "HOPPER: 3": True,
        "Hoppers nodule": True,
        "id 4711": True,
        "born 1906-12-09": True,
        "born 09.12.1906": True,
        "born 9/12/06": True,
        "12/9/1906": True,
        "born 9 Dec 1906": True,
        "December 9, 1906": True,
        "geboren am 9. Dezember 1906": True,
        "09121906": True,
        "9 of 12 slices in 1.906 s": False,
        "9 of 12 nodules of 6 mm": False,
        "9th of December 1906": True,
        "9 décembre 1906": True,
        "9 de diciembre de 1906": True,
        "9 декабря 1906": True,
        "1906年12月9日": True,
        "1906년 12월 9일": True,
    },
    ("O'Brien^Al", "X"): {"OBrien": True, "O Brien": True, "o\u2019brien": True, "brie": False, "al": False},
    ("Иванов^Юрий", "77"): {"Ivanov": True, "Iurii": True, "Yuriy": True, "Yuri": True, "ИВАНОВ": True, "van": False},
    ("Иванов^Иван", "78"): {
        "Иванова": True,
        "для Ивановой": True,
        "c Ивановым": True,
        "Ivanova": True,
        "Ivanovoy": True,
        "очаг в левой доле": False,
        "Новое": False,
        "novel": False,
    },
    ("Достоевский^Лев", "79"): {
        "Достоевского": True,
        "Достоевская": True,
        "Dostoevskogo": True,
        "узел в левом легком": False,
        "достаточно": False,
    },
    ("Толстая^Жанна", "80"): {"Толстой": True, "жаждал": False, "toll": False},
    ("Sokolov^Ann", "8"): {"Соколов": True, "сокол": False, "an n": False},
    ("Yamada^Tarou=山田^太郎", "88"): {"山田": True, "患者山田様": True, "山 田": True, "山": False, "太郎": True},
    ("Yamada^Mai=山田^舞=やまだ^まい", "89"): {
        "ヤマダ": True,
        "ﾔﾏﾀﾞ様": True,
        "ヤマダ マイ": True,
        "ヤマダマイ": True,
        "マイクロカルシフィケーション": False,
        "リンパ節": False,
    },
    ("=山田=ヤマダ^タロウ", "90"): {"やまださん": True, "たろうさん": True, "病変": False},
    ("A^B", "12345"): {
        "1 2 3 4 5": True,
        "pat. 1-2-3-4-5": True,
        "١٢٣٤٥": True,
        "1.2 3.4 5": False,
        "1, 2, 3, 4 and 5": False,
        "12 mm, 34 mm, 5": False,
        "slices 0 1 2 3 4 5": False,
    },
    ("LI^NA", "7"): {
        "NaLi": True,
        "LiNa": True,
        "Li Na, bed 4": True,
        "NA LI": True,
        "Li, Na": True,
        "a lesion of 7 mm, na": False,
    },
    ("O^Al", "B17"): {"seen in O, Al": True, "B 17": True, "b-17": True, "B 170": False, "at the portal": False},
    ("Müller^Jo", "12.3"): {
        "Mueller": True,
        "Muller": True,
        "MU\u0308LLER": True,
        "Mu\u00adller": True,
        "Mul-ler": True,
        "M ü l l e r": True,
        "mull": False,
        "12.3 mm": False,
    },
    ("李娜", "7"): {"李娜": True, "患者李娜。": True, "李": False},
    ("Wang^XiaoDong=王^小东", "7"): {"王小东": True, "王 小东": True, "小东": True, "小": False},
}


@pytest.mark.parametrize(
    ("name", "identifier", "text", "is_quoted"),
    [(*patient, text, is_quoted) for patient, texts in CASES.items() for text, is_quoted in texts.items()],
)
def test_a_text_that_quotes_the_patient_is_known(
    tmp_path: Path, name: str, identifier: str, text: str, *, is_quoted: bool
) -> None:
    image = testing.dataset(testing.noise(16, 16), study="quoted")
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName, image.PatientID, image.PatientBirthDate = name, identifier, "19061209"
    path = tmp_path / "image.dcm"
    image.save_as(path, enforce_file_format=True)
    assert quotes_patient(text, headers.instance(path, sha256="")) is is_quoted
