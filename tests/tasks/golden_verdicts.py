"""Verdicts worked out by hand: (answer or constraints, response, strict score, tolerant score)."""

from __future__ import annotations

from typing import Any

BOX = "\\boxed{%s}"


def boxed(gold: str, answer: str, right: bool) -> tuple[str, str, float, float]:
    """A boxed answer: under the strict format, so both scores say the same."""
    return gold, f"So it is {BOX % answer}", float(right), float(right)


MATH: list[tuple[str, str, float, float]] = [
    # Numbers, exactly.
    boxed("5", "5", True),
    boxed("5", "5.0", True),
    boxed("5", "+5", True),
    boxed("5", "-5", False),
    boxed("5", "5.0000001", False),
    boxed("0.5", "1/2", True),
    boxed("1/2", "0.5", True),
    boxed("1/3", "0.333", False),
    boxed("1000", "1,000", True),
    boxed("1,000", "1000", True),
    boxed("1000", "1,00", False),
    boxed("1000", "10^{3}", True),
    boxed("0.0012", "1.2 \\times 10^{-3}", True),
    boxed("-3/4", "-0.75", True),
    boxed("7", "", False),
    boxed("123456789012345678901", "123456789012345678902", False),
    # LaTeX.
    boxed("\\frac{1}{2}", "\\frac12", True),
    boxed("\\frac{1}{2}", "\\dfrac{2}{4}", True),
    boxed("\\frac{1}{2}", "\\frac{1}{3}", False),
    boxed("\\sqrt{8}", "2\\sqrt{2}", True),
    boxed("\\sqrt{8}", "2.83", False),
    boxed("\\pi", "3.14159", False),
    boxed("2\\pi", "\\pi + \\pi", True),
    boxed("x^2+2x+1", "(x+1)^2", True),
    boxed("x^2+2x+1", "(x-1)^2", False),
    boxed("x=5", "5", True),
    boxed("\\{1,2\\}", "\\{2,1\\}", True),
    boxed("\\{1,2\\}", "1, 2", True),
    boxed("\\{1,2\\}", "\\{1,3\\}", False),
    boxed("(1,2)", "[1,2]", False),
    boxed("(1,2)", "(2,1)", False),
    boxed("1\\frac{1}{2}", "1.5", True),
    boxed("2^{10}", "1024", True),
    boxed("30^\\circ", "30", True),
    # The gold answer comes first: an inequality may be written as an interval, an interval not so.
    boxed("1<x<2", "(1,2)", True),
    boxed("(1,2)", "1<x<2", False),
    # Words are words, not products of letters: anagrams differ.
    boxed("east", "east", True),
    boxed("east", "East", True),
    boxed("east", "\\text{east}", True),
    boxed("east", "seat", False),
    boxed("\\text{no solution}", "No solution.", True),
    # Neither can be read: that does not make them equal.
    boxed("5", "5^", False),
    boxed("5", "{", False),
    # The format.
    ("42", "The answer is 42.", 0.0, 1.0),
    ("42", "The answer is 41.", 0.0, 0.0),
    ("42", "<answer>42</answer>", 0.0, 1.0),
    ("42", "#### 42", 0.0, 1.0),
    ("42", "I think it is **42**", 0.0, 1.0),
    ("42", "so x = 40 + 2\n42", 0.0, 1.0),
    ("42", "42 or 43", 0.0, 0.0),
    ("42", "\\boxed{41} no wait \\boxed{42}", 1.0, 1.0),
    ("42", "\\boxed{42} no wait \\boxed{41}", 0.0, 0.0),
    ("42", "\\boxed{42", 0.0, 1.0),
    ("\\frac{1}{2}", "\\boxed{\\frac{1}{2}}", 1.0, 1.0),
    ("42", "<think>\\boxed{42}</think> done", 0.0, 0.0),
    ("42", "<think>\\boxed{41}</think> \\boxed{42}", 1.0, 1.0),
    ("42", "<think> so \\boxed{42}", 0.0, 1.0),
    ("42", "", 0.0, 0.0),
    ("42", "\\boxed{}", 0.0, 0.0),
    ("42", "\\boxed{" + "4" * 2000 + "}", 0.0, 0.0),
    # Does not end by itself.
    ("42", "\\boxed{9^{9^{9^{9^{9}}}}}", 0.0, 0.0),
]

STEM: list[tuple[str, str, float, float]] = [
    boxed("5 km", "5 km", True),
    boxed("5 km", "5km", True),
    boxed("5 km", "5.0 \\text{ km}", True),
    boxed("5 km", "5 m", False),
    boxed("5 km", "6 km", False),
    ("5 km", "\\boxed{5}", 0.0, 1.0),
    ("5", "\\boxed{5 km}", 0.0, 1.0),
    boxed("5", "5", True),
    boxed("9.81 m/s^2", "9.81 m/s^{2}", True),
    boxed("9.81 m/s^2", "9.8 m/s^2", False),
    boxed("3e8 m/s", "3 \\times 10^8 m/s", True),
    boxed("50%", "50\\%", True),
    ("50%", "\\boxed{50}", 0.0, 1.0),
    boxed("mitochondria", "the Mitochondria", True),
    boxed("mitochondria", "ribosome", False),
    boxed("sodium chloride", "Sodium  Chloride.", True),
    boxed("sodium chloride", "chloride sodium", False),
    boxed("E = mc^2", "E = m c^2", True),
    boxed("E = mc^2", "E = m c^3", False),
    ("mitochondria", "The answer is: mitochondria.", 0.0, 1.0),
    ("mitochondria", "It could be the mitochondria or the nucleus", 0.0, 0.0),
    ("5 km", "That makes 5 km", 0.0, 1.0),
    ("5 km", "That makes 5 m, then", 0.0, 0.0),
    ("5 km", "That makes about 5.", 0.0, 1.0),
    ("5 km", "Result: 5 km", 0.0, 1.0),
    ("5 km", "", 0.0, 0.0),
]

TOLERANCES: list[tuple[float, str, float]] = [
    # Gold 9.81 with a relative tolerance: 1 % is 0.0981.
    (0.01, "9.8", 1.0),
    (0.01, "9.90", 1.0),
    (0.01, "9.91", 0.0),
    (0.0, "9.8", 0.0),
]

CHOICES = ("4 m/s", "8 m/s", "neither", "both of them")
CHOICE: list[tuple[str, str, float, float]] = [
    boxed("B", "B", True),
    boxed("B", "(B)", True),
    boxed("B", "B.", True),
    boxed("B", "A", False),
    ("B", "\\boxed{b}", 0.0, 1.0),
    ("B", "\\boxed{8 m/s}", 0.0, 1.0),
    ("B", "\\boxed{4 m/s}", 0.0, 0.0),
    ("B", "\\boxed{B) 8 m/s}", 0.0, 1.0),
    ("B", "\\boxed{A) 4 m/s}", 0.0, 0.0),
    ("B", "\\boxed{AB}", 0.0, 0.0),
    ("B", "\\boxed{B or C}", 0.0, 0.0),
    ("B", "The answer is B.", 0.0, 1.0),
    ("B", "The answer is (B)", 0.0, 1.0),
    ("B", "The answer is option B", 0.0, 1.0),
    ("B", "The answer is (C)", 0.0, 0.0),
    ("B", "<answer>B</answer>", 0.0, 1.0),
    ("B", "# B", 0.0, 1.0),
    ("B", "A, B, C and D", 0.0, 0.0),
    ("B", "Because it doubles.\nB", 0.0, 1.0),
    ("C", "\\boxed{Neither}", 0.0, 1.0),
    ("D", "\\boxed{both of them}", 0.0, 1.0),
    ("B", "\\boxed{E}", 0.0, 0.0),
    ("B", "", 0.0, 0.0),
    ("B", "<think>\\boxed{B}", 0.0, 1.0),
]

LOGIC: list[tuple[str, str, float, float]] = [
    # Without a scorer of their own: equal as text or as number.
    ("knight", "<answer>knight</answer>", 1.0, 1.0),
    ("knight", "<answer> Knight. </answer>", 1.0, 1.0),
    ("knight", "<answer>knave</answer>", 0.0, 0.0),
    ("knight", "Zoe is a\nknight", 0.0, 1.0),
    ("12", "<answer>12.0</answer>", 1.0, 1.0),
    ("12", "<answer>13</answer>", 0.0, 0.0),
    ("12", "<answer>12", 0.0, 1.0),
    ("12", "<answer>13</answer> <answer>12</answer>", 1.0, 1.0),
    ("12", "\\boxed{12}", 0.0, 1.0),
    ("A -> B", "<answer>A -> B</answer>", 1.0, 1.0),
    ("A -> B", "<answer>B -> A</answer>", 0.0, 0.0),
    ("12", "", 0.0, 0.0),
]

GYM: list[tuple[str, str, float, float]] = [
    # Scorers of reasoning-gym. spell_backward pays a part for a longer answer: all or nothing here.
    ("chain_sum", "<answer>%s</answer>", 1.0, 1.0),
    ("chain_sum", "<answer>%s0</answer>", 0.0, 0.0),
    ("chain_sum", "The answer is %s", 0.0, 1.0),
    ("spell_backward", "<answer>%s</answer>", 1.0, 1.0),
    ("spell_backward", "<answer>%s and more</answer>", 0.0, 0.0),
    ("spell_backward", "%s", 0.0, 1.0),
    ("maze", "<answer>%s</answer>", 1.0, 1.0),
    ("maze", "<answer>x</answer>", 0.0, 0.0),
]


def count(unit: str, **limits: int) -> dict[str, Any]:
    """A constraint on a number."""
    return {"type": "count", "unit": unit, **limits}


def kind(name: str, /, **parameters: Any) -> dict[str, Any]:
    """Any other constraint."""
    return {"type": name, **parameters}


TWO_WORDS = count("words", at_least=2, at_most=2)
INSTRUCTIONS: list[tuple[list[dict[str, Any]], str, float, float]] = [
    ([TWO_WORDS], "hello world", 1.0, 1.0),
    ([TWO_WORDS], "hello", 0.0, 0.0),
    ([TWO_WORDS], "it's well-known", 1.0, 1.0),
    # IFEval's loose forms: without the first line, the last, both, or asterisks.
    ([TWO_WORDS], "Sure, here it is:\nhello world", 0.0, 1.0),
    ([TWO_WORDS], "hello world\nHope that helps!", 0.0, 1.0),
    ([TWO_WORDS], "Sure:\nhello world\nBye for now!", 0.0, 1.0),
    ([TWO_WORDS], "", 0.0, 0.0),
    ([TWO_WORDS], "<think>one two three</think>hello world", 1.0, 1.0),
    ([TWO_WORDS], "<think>one two three", 0.0, 0.0),
    ([count("words", at_least=3)], "one two three four", 1.0, 1.0),
    ([count("words", at_most=3)], "one two three four", 0.0, 0.0),
    ([count("sentences", at_least=2, at_most=2)], "One. Two!", 1.0, 1.0),
    ([count("sentences", at_least=2, at_most=2)], "One... two", 1.0, 1.0),
    ([count("sentences", at_most=1)], "One. Two.", 0.0, 0.0),
    ([count("lines", at_least=2, at_most=2)], "a\n\nb", 1.0, 1.0),
    ([count("paragraphs", at_least=2)], "a\n\nb", 1.0, 1.0),
    ([count("paragraphs", at_least=2)], "a\nb", 0.0, 0.0),
    ([count("bullets", at_least=3, at_most=3)], "- a\n- b\n- c", 1.0, 1.0),
    ([count("bullets", at_least=3, at_most=3)], "* a\n* b\n* c", 1.0, 1.0),
    ([count("bullets", at_least=3, at_most=3)], "1. a\n2) b\n3. c", 1.0, 1.0),
    ([count("bullets", at_least=3, at_most=3)], "- a\n- b", 0.0, 0.0),
    ([count("bullets", at_least=2, at_most=2)], "- a\n- b\n- c", 0.0, 1.0),
    ([count("characters", at_most=5)], " hello ", 1.0, 1.0),
    ([count("characters", at_most=5)], "hello!", 0.0, 0.0),
    ([count("capital_words", at_least=2)], "THIS is LOUD", 1.0, 1.0),
    ([count("capital_words", at_least=2)], "I am LOUD", 0.0, 0.0),
    ([count("placeholders", at_least=1)], "Dear [name]", 1.0, 1.0),
    ([count("placeholders", at_least=1)], "Dear name", 0.0, 0.0),
    ([count("highlights", at_least=2)], "*a* and **b**", 1.0, 1.0),
    ([count("highlights", at_least=2)], "*a* and b", 0.0, 0.0),
    ([kind("word_frequency", word="cat", at_least=2)], "Cat and cat", 1.0, 1.0),
    ([kind("word_frequency", word="cat", at_least=2)], "cats concat cat", 0.0, 0.0),
    ([kind("letter_frequency", letter="e", at_most=1)], "Edge", 0.0, 0.0),
    ([kind("letter_frequency", letter="e", at_most=2)], "Edge", 1.0, 1.0),
    ([kind("include", words=["red fox"])], "The Red Fox ran", 1.0, 1.0),
    ([kind("include", words=["red", "fox"])], "The reddish fox", 0.0, 0.0),
    ([kind("exclude", words=["the"])], "Other foxes", 1.0, 1.0),
    ([kind("exclude", words=["the"])], "The fox", 0.0, 0.0),
    ([kind("exclude_letters", letters=["e"])], "A lipogram", 1.0, 1.0),
    ([kind("exclude_letters", letters=["e"])], "THE END", 0.0, 0.0),
    ([kind("starts_with", text="Dear")], "  Dear you", 1.0, 1.0),
    ([kind("starts_with", text="Dear")], "My dear", 0.0, 0.0),
    ([kind("starts_with", text="Dear")], "Of course!\nDear you", 0.0, 1.0),
    ([kind("ends_with", text="Bye.")], "So. Bye. ", 1.0, 1.0),
    ([kind("ends_with", text="Bye.")], "Bye. So.", 0.0, 0.0),
    ([kind("first_word", word="yes")], "Yes, I do", 1.0, 1.0),
    ([kind("first_word", word="yes")], "I say yes", 0.0, 0.0),
    ([kind("last_word", word="yes")], "I say yes!", 1.0, 1.0),
    ([kind("last_word", word="yes")], "yes I say", 0.0, 0.0),
    ([kind("upper_case")], "LOUD 1!", 1.0, 1.0),
    ([kind("upper_case")], "LOUd", 0.0, 0.0),
    ([kind("upper_case")], "123", 0.0, 0.0),
    ([kind("lower_case")], "quiet", 1.0, 1.0),
    ([kind("lower_case")], "Quiet", 0.0, 0.0),
    ([kind("title_case")], "The Red Fox", 1.0, 1.0),
    ([kind("title_case")], "The red Fox", 0.0, 0.0),
    ([kind("no_commas")], "one and two", 1.0, 1.0),
    ([kind("no_commas")], "one, two", 0.0, 0.0),
    ([kind("no_digits")], "two", 1.0, 1.0),
    ([kind("no_digits")], "2", 0.0, 0.0),
    ([kind("quoted")], '"all of it"', 1.0, 1.0),
    ([kind("quoted")], '"a" and b', 0.0, 0.0),
    ([kind("json")], '{"a": [1, 2]}', 1.0, 1.0),
    ([kind("json")], '```json\n{"a": 1}\n```', 1.0, 1.0),
    ([kind("json")], "{'a': 1}", 0.0, 0.0),
    ([kind("json")], "[" * 5000, 0.0, 0.0),
    ([kind("json", keys=["a", "b"])], '{"a": 1, "b": 2, "c": 3}', 1.0, 1.0),
    ([kind("json", keys=["a", "b"])], '{"a": 1}', 0.0, 0.0),
    ([kind("json", keys=["a"])], '["a"]', 0.0, 0.0),
    ([kind("title")], "<<My Day>>\nIt was", 1.0, 1.0),
    ([kind("title")], "<My Day>", 0.0, 0.0),
    ([kind("postscript")], "Bye\nP.S. Write!", 1.0, 1.0),
    ([kind("postscript")], "Bye PS write", 0.0, 0.0),
    ([kind("sections", name="Part", at_least=2)], "Part 1\na\nPart 2\nb", 1.0, 1.0),
    ([kind("sections", name="Part", at_least=2)], "Part 1\na\nPart two", 0.0, 0.0),
    ([kind("one_of", options=["yes", "no"])], " yes ", 1.0, 1.0),
    ([kind("one_of", options=["yes", "no"])], "maybe", 0.0, 0.0),
    ([kind("alphabetical")], "Ann bob cat", 1.0, 1.0),
    ([kind("alphabetical")], "bob ann", 0.0, 0.0),
    ([kind("unique_words")], "one two three", 1.0, 1.0),
    ([kind("unique_words")], "one two One", 0.0, 0.0),
    ([kind("repeats_prompt", prompt="Why?")], "Why? Because.", 1.0, 1.0),
    ([kind("repeats_prompt", prompt="Why?")], "Because.", 0.0, 0.0),
    # Shares: one of two, two of three.
    ([TWO_WORDS, kind("upper_case")], "hello world", 0.5, 0.5),
    ([TWO_WORDS, kind("upper_case"), kind("no_digits")], "HELLO", 2 / 3, 2 / 3),
    ([TWO_WORDS, kind("upper_case")], "HELLO WORLD", 1.0, 1.0),
]

NUMBER = sum(map(len, (MATH, STEM, TOLERANCES, CHOICE, LOGIC, GYM, INSTRUCTIONS)))
