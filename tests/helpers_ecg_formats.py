"""Writers of vendors' formats for the tests, from their public descriptions; ``counts`` (12, samples) are µV."""

import base64
import struct

import numpy as np

from gem_lightning.ecg import LEADS

SCP_CODES = (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8)


def cardiosoft(counts) -> bytes:
    waves = "".join(
        f'<WaveformData lead="{n}">\n\t{",".join(map(str, r))}</WaveformData>' for n, r in zip(LEADS, counts)
    )
    return (
        "<?xml version='1.0'?><CardiologyXML><PatientInfo><PID>12345</PID><Name><FamilyName>Doe</FamilyName></Name>"
        '<Age units="years">54</Age><Gender>MALE</Gender></PatientInfo>'
        '<RestingECGMeasurements><VentricularRate units="BPM">71</VentricularRate>'
        '<QRSDuration units="ms">92</QRSDuration></RestingECGMeasurements>'
        "<Interpretation><Diagnosis><DiagnosisText>Normal sinus rhythm</DiagnosisText></Diagnosis>"
        '</Interpretation><StripData><NumberOfLeads>12</NumberOfLeads><SampleRate units="Hz">500</SampleRate>'
        f'<Resolution units="uVperLsb">1</Resolution>{waves}</StripData></CardiologyXML>'
    ).encode()


def schiller(counts) -> bytes:
    channels = "".join(
        f"<channel><name>{n}</name><datastype>COMMASEPARATE</datastype><data>{','.join(map(str, r))}</data></channel>"
        for n, r in zip(LEADS, counts)
    )
    return (
        "<examdescript><patdata><id>12345</id><lastname>Doe</lastname><birthdate>19600301</birthdate>"
        "<gender>MALE</gender></patdata><startdatetime><date>20140302</date></startdatetime>"
        "<eventdata><event><wavedata><type>ECG_AVERAGES</type></wavedata><wavedata><type>ECG_RHYTHMS</type><resolution>"
        "<samplerate><value>500</value><exponent>1</exponent></samplerate>"
        f"<yres><unitperbit>1</unitperbit><units>UV</units></yres></resolution>{channels}</wavedata></event></eventdata></examdescript>"
    ).encode()


def eli(counts) -> bytes:
    channels = "".join(
        f'<CHANNEL OFFSET="0" BITS="16" FORMAT="SIGNED" UNITS_PER_MV="1000" DURATION="{len(r) * 2}" SAMPLE_FREQ="500" '
        f'NAME="{n}" ENCODING="BASE64" DATA="{base64.b64encode(r.tobytes()).decode()}"/>'
        for n, r in zip(LEADS, counts)
    )
    return (
        '<ECG VERSION="1"><SUBJECT ID="12345" LAST_NAME="Doe" AGE="54" GENDER="MALE"/><SOURCE MODEL="ELI 350"/>'
        '<AUTOMATIC_INTERPRETATION><STATEMENT NUMBER="1"><CODE>N</CODE>NORMAL ECG</STATEMENT>'
        "</AUTOMATIC_INTERPRETATION>"
        f"{channels}</ECG>"
    ).encode()


def mfer(counts, order: str = ">") -> bytes:
    """Two sequences, blocks of half a recording, a lead code in each channel's attributes."""

    def field(tag: int, content: bytes) -> bytes:
        size = len(content)
        return bytes([tag]) + (bytes([size]) if size < 128 else b"\x84" + size.to_bytes(4, "big")) + content

    half = counts.shape[1] // 2
    out = b"\x40\x20MFR ".ljust(34) + field(0x01, b"\x01" if order == "<" else b"\x00")
    out += field(0x0B, struct.pack(order + "Bbh", 1, -3, 2)) + field(0x0C, struct.pack(order + "Bbh", 0, -6, 1))
    out += field(0x04, struct.pack(order + "I", half)) + field(0x05, bytes([12])) + field(0x06, bytes([2]))
    out += field(0x82, b"12345") + field(0x83, b"\x36\x00\x00") + field(0x84, b"\x01")
    for i, code in enumerate(SCP_CODES):
        inner = field(0x09, struct.pack(order + "H", code))
        out += bytes([0x3F, i, len(inner)]) + inner
    frames = np.concatenate([counts[:, :half], counts[:, half : 2 * half]]).astype(order + "i2")
    return out + field(0x1E, frames.tobytes()) + b"\x80\x00"


def atc(counts) -> bytes:
    def block(name: bytes, content: bytes) -> bytes:
        return name + struct.pack("<I", len(content)) + content + struct.pack("<I", sum(content) & 0xFFFFFFFF)

    out = b"ALIVE\0\0\0" + struct.pack("<I", 3) + block(b"info", b"2021-05-06T07:08:09".ljust(264, b"\0"))
    out += block(b"fmt ", struct.pack("<BHHBH", 1, 500, 1000, 0, 0))
    return (
        out + b"".join(block(n, r.tobytes()) for n, r in zip((b"ecg ", b"ecg2"), counts)) + block(b"ann ", b"\0\0\0\0")
    )


def contec(counts) -> bytes:
    """Steps of 5 µV at 800 Hz."""
    rows = np.rint(counts[[1, 2, 6, 7, 8, 9, 10, 11]].T / 5).astype(np.int32) + 2048
    head = b"0000001\0" + b"\0\0" + b"2019-03-04 05:06:07\0" + b"\0\0" + b"Doe".ljust(8, b"\0") + bytes([1, 54, 70])
    return head + rows.astype("<u2").tobytes() + bytes(16) + bytes(37)
