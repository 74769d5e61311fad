package sniff

import (
	"fmt"
	"strings"
)

// Instead says in a sentence what a file is that begins with head and is not
// what its reader wants, and what to do about it. It is empty where head is
// what is wanted, so far as it goes, or nothing that this package knows.
//
//	it is a Git LFS pointer, not the file itself: "git lfs pull" fetches the file
func Instead(head []byte, want Want) string {
	k := Of(head)
	if k == Unknown || want.is(k) {
		return ""
	}
	s := "it is " + k.String()
	switch {
	case k == LinkText:
		s += fmt.Sprintf(" to %q", opening(head))
	case k == Zip && want == Tensors:
		s += ", such as torch.save writes (a PyTorch pickle)"
	case k == PlainText, k == JSON:
		s += fmt.Sprintf(" that begins with %q", opening(head))
	}
	if a := k.advice(want); a != "" {
		s += ": " + a
	}
	return s
}

// opening is the beginning of a text, for a message.
func opening(head []byte) string {
	const most = 40
	line, _, _ := strings.Cut(strings.TrimSpace(string(head)), "\n")
	if r := []rune(line); len(r) > most {
		line = string(r[:most]) + "…"
	}
	return strings.TrimSpace(line)
}

// is says that a file of kind k may be what is wanted.
func (w Want) is(k Kind) bool {
	switch w {
	case Tensors:
		return k == Safetensors
	case Picture:
		return k == PNG || k == JPEG
	case Records:
		return k == TFRecord
	case Shard:
		return k == Tar || k == Gzip
	default:
		return k == PlainText || k == JSON
	}
}

// String names the kind with its article.
func (k Kind) String() string {
	switch k {
	case Empty:
		return "an empty file"
	case Zeros:
		return "a file of zero bytes"
	case GitLFS:
		return "a Git LFS pointer, not the file itself"
	case GitAnnex:
		return "a git-annex pointer, not the file itself"
	case LinkText:
		return "the text of a link"
	case HTML:
		return "an HTML page"
	case XML:
		return "an XML document"
	case JSON:
		return "JSON text"
	case ShardIndex:
		return "the index of a sharded safetensors file"
	case PlainText:
		return "plain text"
	case UTF16:
		return "text in UTF-16"
	case UTF32:
		return "text in UTF-32"
	case BOM:
		return "text behind a UTF-8 byte order mark"
	case Gzip:
		return "a gzip file"
	case Bzip2:
		return "a bzip2 file"
	case XZ:
		return "an xz file"
	case Zstd:
		return "a zstd file"
	case Zip:
		return "a zip archive"
	case SevenZip:
		return "a 7z archive"
	case Tar:
		return "a tar archive"
	case TorchZip:
		return "a PyTorch file of torch.save (a pickle in a zip archive)"
	case Pickle:
		return "a Python pickle, as an old torch.save writes it"
	case NumPy:
		return "a NumPy .npy file"
	case NumPyZip:
		return "a NumPy .npz file"
	case HDF5:
		return "an HDF5 file"
	case Parquet:
		return "a Parquet file"
	case Arrow:
		return "an Arrow file"
	case GGUF:
		return "a GGUF file"
	case Safetensors:
		return "a safetensors file"
	case TFRecord:
		return "a TFRecord file"
	case PNG:
		return "a PNG picture"
	case JPEG:
		return "a JPEG picture"
	case WebP:
		return "a WebP picture"
	case BMP:
		return "a BMP picture"
	case GIF:
		return "a GIF picture"
	case TIFF:
		return "a TIFF picture"
	case HEIF:
		return "a HEIC picture"
	case AVIF:
		return "an AVIF picture"
	case JPEG2000:
		return "a JPEG 2000 picture"
	case JPEGXL:
		return "a JPEG XL picture"
	case PNM:
		return "a PNM picture"
	case Video:
		return "a video file"
	case PDF:
		return "a PDF file"
	case Mangled:
		return "a PNG whose first bytes were changed"
	}
	return "an unknown file"
}

// picture says that k is a picture.
func (k Kind) picture() bool { return k >= PNG && k <= PNM }

// advice is what to do with a file of kind k where want was expected.
func (k Kind) advice(want Want) string {
	switch k {
	case Empty:
		return "download or copy it again"
	case Zeros:
		return "a download or copy broke off; get it again"
	case GitLFS:
		return `run "git lfs pull" in its repository to fetch the file`
	case GitAnnex:
		return `run "git annex get" in its repository to fetch the file`
	case LinkText:
		return "a copy kept the link's text and lost the file, as from a Hugging Face cache; copy that again with its links followed (cp -rL), or download it again"
	case HTML, XML:
		return "a server sent this page in place of the file, for want of a login or of the file; open it to read why, and download again"
	case UTF16, UTF32, BOM:
		if want == Text {
			return "save it as UTF-8 without a byte order mark"
		}
	case Gzip:
		return "unpack it with gunzip"
	case Bzip2:
		return "unpack it with bunzip2"
	case XZ:
		return "unpack it with unxz"
	case Zstd:
		return "unpack it with unzstd"
	case Zip, SevenZip, Tar:
		if k == Zip && want == Tensors {
			return TorchZip.toTensors() + "; if something else packed it, unpack it"
		}
		return "unpack it and give the file inside"
	case Video:
		if want == Picture {
			return "extract its frames as PNG or JPEG"
		}
	}
	switch {
	case want == Picture && k.picture():
		return "save it as PNG or JPEG, for example with Pillow: Image.open(old).convert(\"RGB\").save(\"new.png\")"
	case want == Picture && k == Mangled:
		return "a copy changed its line ends (FTP in text mode, git's autocrlf); copy or download it again as binary"
	case want == Picture && (k == NumPy || k == NumPyZip):
		return "save its pictures as PNG, for example with Pillow: Image.fromarray(array).save(\"new.png\")"
	case want == Picture && (k == PlainText || k == JSON || k == PDF):
		return "put the picture itself there, as PNG or JPEG"
	case want == Text && (k == Parquet || k == Arrow || k == HDF5 || k == NumPy || k == NumPyZip || k == Pickle):
		return "text is wanted here: write what it holds as JSON in UTF-8"
	case want == Tensors:
		return k.toTensors()
	case want == Records && (k == Parquet || k == Arrow || k == HDF5 || k == NumPy || k == NumPyZip || k == PlainText || k == JSON):
		return "a TFRecord file of TFDS is wanted here; get or write the data set in that form"
	case want == Shard && k == HDF5:
		return "tools/hdf5_shards.py makes shards of it (python, h5py): python tools/hdf5_shards.py FILE.hdf5 | coordinator data convert - OUT"
	case want == Records && k == Safetensors:
		return "data.kind: tensors reads those"
	}
	return ""
}

// toTensors is how a file of kind k becomes a safetensors file.
func (k Kind) toTensors() string {
	switch k {
	case TorchZip, Pickle:
		return "convert it in Python: safetensors.torch.save_file(torch.load(old, map_location=\"cpu\", weights_only=True), \"new.safetensors\"), with the state_dict inside where the file holds more"
	case NumPy, NumPyZip:
		return "convert it in Python: safetensors.numpy.save_file({\"name\": array}, \"new.safetensors\")"
	case HDF5, Parquet, Arrow, GGUF:
		return "convert it in Python with safetensors.numpy.save_file"
	case ShardIndex:
		return "its parts stand beside it"
	case TFRecord:
		return "data.kind: rlds reads those, given their folder"
	}
	return ""
}
