"""Makes the golden cases of pkg/tokenizer, and speaks for the package tokenizers in its tests.

    python tools/make_tokenizers.py make pkg/tokenizer/testdata    trains small tokenizers on corpus.json there
                                                                   and writes what the package makes of the corpus
    python tools/make_tokenizers.py ids FILE < texts.json          token numbers of each text, as JSON, without
                                                                   padding; an error of the package is null

Needs the Python packages tokenizers (written with 0.23.3) and, for make, sentencepiece.
"""

import base64
import json
import pathlib
import sys
import tempfile

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def field(message, number):
    """The field of that number, of bytes, of a protocol buffer whose fields are bytes or varints or fixed32."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            b = message[at]
            at += 1
            value |= (b & 127) << shift
            shift += 7
            if b < 128:
                return value

    while at < len(message):
        key = varint()
        kind, size = key & 7, 4
        if kind == 0:
            varint()
            continue
        if kind == 2:
            size = varint()
            if key >> 3 == number:
                return message[at : at + size]
        at += size
    raise ValueError(f"no field {number}")


def charsmap(rules):
    """The table that SentencePiece compiles of a few rules: enough to be small, of the real layout."""
    import sentencepiece as spm

    with tempfile.TemporaryDirectory() as d:
        d = pathlib.Path(d)
        lines = ["\t".join(" ".join(f"{ord(c):X}" for c in side) for side in rule) for rule in rules]
        (d / "rules.tsv").write_text("\n".join(lines) + "\n")
        (d / "text").write_text("a b c d e f g h\n" * 20)
        spm.SentencePieceTrainer.train(input=str(d / "text"), model_prefix=str(d / "m"), vocab_size=18, model_type="unigram",
                                       hard_vocab_limit=False, normalization_rule_tsv=str(d / "rules.tsv"), minloglevel=2)
        # ModelProto.normalizer_spec is field 3, its precompiled_charsmap field 2.
        return base64.b64encode(field(field((d / "m.model").read_bytes(), 3), 2)).decode()


def trained(model, trainer, corpus, **parts):
    t = Tokenizer(model)
    for name, part in parts.items():
        setattr(t, name, part)
    t.train_from_iterator(corpus, trainer)
    return t


def template(t, single, *names):
    t.post_processor = processors.TemplateProcessing(single=single, special_tokens=[(n, t.token_to_id(n)) for n in names])
    return t


def altered(t, change):
    x = json.loads(t.to_str())
    change(x)
    return Tokenizer.from_str(json.dumps(x))


def tokenizers(corpus):
    bert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t = trained(models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(vocab_size=700, special_tokens=bert, show_progress=False), corpus,
                normalizer=normalizers.BertNormalizer(), pre_tokenizer=pre_tokenizers.BertPreTokenizer())
    template(t, "[CLS] $A [SEP]", "[CLS]", "[SEP]")
    t.enable_truncation(24)
    t.enable_padding(length=24, pad_id=0)
    yield "bert", t
    t = trained(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=12),
                trainers.WordPieceTrainer(vocab_size=600, special_tokens=bert, show_progress=False), corpus,
                normalizer=normalizers.BertNormalizer(lowercase=False, handle_chinese_chars=False), pre_tokenizer=pre_tokenizers.BertPreTokenizer())
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    yield "bert_cased", t

    letters = pre_tokenizers.ByteLevel.alphabet()
    t = trained(models.BPE(), trainers.BpeTrainer(vocab_size=600, initial_alphabet=letters, special_tokens=["<|endoftext|>"], show_progress=False), corpus,
                pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False), decoder=decoders.ByteLevel())
    t.post_processor = processors.ByteLevel()
    yield "gpt2", t
    t = trained(models.BPE(), trainers.BpeTrainer(vocab_size=600, initial_alphabet=letters, special_tokens=["<|endoftext|>", "<|im_start|>"], show_progress=False), corpus,
                pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    yield "smollm", t
    t = trained(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>", fuse_unk=False),
                trainers.BpeTrainer(vocab_size=700, initial_alphabet=letters, end_of_word_suffix="</w>",
                                    special_tokens=["<|startoftext|>", "<|endoftext|>"], show_progress=False), corpus,
                normalizer=normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]),
                pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CLIP), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    t.post_processor = processors.RobertaProcessing(("<|endoftext|>", 1), ("<|startoftext|>", 0), trim_offsets=False, add_prefix_space=False)
    t.enable_truncation(20)
    yield "clip", t
    t = trained(models.BPE(ignore_merges=True), trainers.BpeTrainer(vocab_size=600, initial_alphabet=letters, special_tokens=["<|begin|>"], show_progress=False), corpus,
                pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))
    t.post_processor = processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 0)])])
    yield "llama3", t

    # Llama 2: no pre-tokenizer, characters that the vocabulary lacks in bytes.
    few = [c for c in corpus if c.isascii()]
    t = trained(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
                trainers.BpeTrainer(vocab_size=650, special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)], show_progress=False), few,
                normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
                pre_tokenizer=pre_tokenizers.Split("▁", "merged_with_next"))
    t = altered(t, lambda x: x.update(pre_tokenizer=None, added_tokens=x["added_tokens"][:3]))
    yield "llama2", template(t, "<s> $A", "<s>")

    def unigram(size, texts, specials, **parts):
        return trained(models.Unigram(), trainers.UnigramTrainer(vocab_size=size, special_tokens=specials, unk_token="<unk>", show_progress=False), texts, **parts)

    table = charsmap([("Ａ", "A"), ("ﬁ", "fi"), ("①", "1"), ("e\u0301", "é"), ("…", "..."), ("\u00a0", " "), ("\t", " "), ("\u200b", ""), ("か\u3099", "が"), ("½", "1/2"), ("\r\n", " ")])
    t = unigram(900, corpus, ["<pad>", "</s>", "<unk>"], normalizer=normalizers.Precompiled(base64.b64decode(table)),
                pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]))
    yield "t5", template(t, "$A </s>", "</s>")
    t = unigram(450, few, ["<unk>", "</s>", "<s>"],
                normalizer=normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]),
                pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first"))
    yield "unigram_first", template(t, "<s> $A </s>", "<s>", "</s>")
    t = unigram(420, few, ["<unk>"] + [f"<0x{b:02X}>" for b in range(256)], normalizer=normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]),
                pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="never", split=False))
    yield "unigram_bytes", altered(t, lambda x: (x["model"].update(byte_fallback=True), x.update(added_tokens=x["added_tokens"][:1])))

    t = trained(models.WordLevel(unk_token="?"), trainers.WordLevelTrainer(vocab_size=300, special_tokens=["?", "<pad>"], show_progress=False), corpus,
                normalizer=normalizers.NFD(), pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("merged_with_previous"), pre_tokenizers.Digits()]))
    yield "words", t
    # Added tokens of every make, on top of GPT-2's.
    from tokenizers import AddedToken

    t = trained(models.BPE(unk_token="<unk>"), trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>"], show_progress=False), corpus,
                normalizer=normalizers.Lowercase(), pre_tokenizer=pre_tokenizers.CharDelimiterSplit(" "))
    t.add_special_tokens([AddedToken("<image>", lstrip=True), AddedToken("<mask>", rstrip=True), AddedToken("<im", lstrip=True, rstrip=True)])
    t.add_tokens([AddedToken("Cube", single_word=True, normalized=True), AddedToken("Red", normalized=True), AddedToken("redder", normalized=True),
                  AddedToken("Gripper", normalized=False), "open"])
    t.enable_truncation(16, direction="left")
    yield "added", t


def ids(t, texts):
    t.no_padding()
    out = []
    for text in texts:
        try:
            out.append(t.encode(text).ids)
        except Exception:
            out.append(None)
    return out


def main():
    if sys.argv[1] == "ids":
        t = Tokenizer.from_file(sys.argv[2])
        json.dump(ids(t, json.load(sys.stdin)), sys.stdout)
        return
    at = pathlib.Path(sys.argv[2])
    corpus = json.loads((at / "corpus.json").read_text())
    golden = {}
    for name, t in tokenizers(corpus):
        t.save(str(at / f"{name}.json"), pretty=False)
        t = Tokenizer.from_file(str(at / f"{name}.json"))
        golden[name] = ids(t, corpus)
    lines = [f'"{n}": [\n' + ",\n".join(json.dumps(i, separators=(",", ":")) for i in x) + "\n]" for n, x in golden.items()]
    (at / "golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    vocab = Tokenizer.from_file(str(at / "bert.json")).get_vocab()
    (at / "vocab.txt").write_text("".join(w + "\n" for w in sorted(vocab, key=vocab.get)))


main()
