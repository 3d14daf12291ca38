"""The code of pages, run block by block."""

from pathlib import Path

from sybil import Document
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

DOCS = Path(__file__).parent.parent / "docs"


def run_blocks(page: Path, text: str | None = None) -> None:
    """Run the Python blocks of a page, in order; `text` takes the place of what stands in the file."""
    document = Document(page.read_text("utf-8") if text is None else text, str(page))
    for parser in (PythonCodeBlockParser(), SkipParser()):
        for region in parser(document):
            document.add(region)
    for example in document:
        example.evaluate()
