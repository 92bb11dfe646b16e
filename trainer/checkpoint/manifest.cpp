#include "trainer/checkpoint/manifest.h"

#include <fmt/format.h>
#include <rapidjson/document.h>
#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>

#include "comm/error.h"
#include "trainer/checkpoint/digest.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/checkpoint/text.h"

namespace fs = std::filesystem;

namespace trainer {
namespace {

using rapidjson::Value;
using Writer = rapidjson::PrettyWriter<rapidjson::StringBuffer>;

// The manifest ends with its own digest, taken over everything before this key.
constexpr std::string_view kDigestKey = ",\n\"manifest_xxh3_128\": \"";
constexpr std::string_view kDigestEnd = "\"\n}\n";
constexpr std::uint64_t kMaxManifestBytes = std::uint64_t{256} << 20;

[[noreturn]] void refuse(const std::string& why) {
  throw comm::Error(comm::ExitCode::kCheckpointRefused, why);
}

const char* name_of(ConfigClass kind) {
  switch (kind) {
    case ConfigClass::kIdentity:
      return "identity";
    case ConfigClass::kSchedule:
      return "schedule";
    default:
      return "runtime";
  }
}

ConfigClass class_of(std::string_view name) {
  for (const ConfigClass kind :
       {ConfigClass::kIdentity, ConfigClass::kSchedule, ConfigClass::kRuntime})
    if (name == name_of(kind)) return kind;
  refuse(fmt::format("unknown class {} of a setting", quote_text(name)));
}

void put(Writer& out, const char* key, std::string_view value) {
  out.Key(key);
  out.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
}

void put(Writer& out, const char* key, std::int64_t value) {
  out.Key(key);
  out.Int64(value);
}

void put(Writer& out, const char* key, const std::map<std::string, std::string>& values) {
  out.Key(key);
  out.StartObject();
  for (const auto& [name, value] : values) put(out, name.c_str(), value);
  out.EndObject();
}

void put(Writer& out, const TensorEntry& entry) {
  out.StartObject();
  put(out, "name", entry.name);
  put(out, "type", entry.type == ElementType::kFloat32 ? "float32" : "int64");
  out.Key("shape");
  out.StartArray();
  for (const std::int64_t n : entry.shape) out.Int64(n);
  out.EndArray();
  out.EndObject();
}

void put(Writer& out, const PieceEntry& entry) {
  out.StartObject();
  put(out, "state", entry.state);
  put(out, "tensor", entry.tensor);
  put(out, "begin", entry.begin);
  put(out, "end", entry.end);
  if (entry.tile > 1) put(out, "tile", std::int64_t{entry.tile});
  out.EndObject();
}

void put(Writer& out, const FileEntry& file) {
  out.StartObject();
  put(out, "name", file.name);
  put(out, "bytes", static_cast<std::int64_t>(file.num_bytes));
  put(out, "xxh3_128", file.digest);
  out.Key("tensors");
  out.StartArray();
  for (const TensorEntry& entry : file.tensors) put(out, entry);
  out.EndArray();
  out.Key("pieces");
  out.StartArray();
  for (const PieceEntry& entry : file.pieces) put(out, entry);
  out.EndArray();
  out.EndObject();
}

template <typename Entries>
void put_all(Writer& out, const Entries& entries) {
  out.StartArray();
  for (const auto& entry : entries) put(out, entry);
  out.EndArray();
}

const Value& member(const Value& object, const char* key) {
  if (!object.IsObject()) refuse(fmt::format("expected an object with {}", quote_text(key)));
  const auto found = object.FindMember(key);
  if (found == object.MemberEnd()) refuse(fmt::format("{} is missing", quote_text(key)));
  return found->value;
}

std::string get_string(const Value& object, const char* key) {
  const Value& value = member(object, key);
  if (!value.IsString()) refuse(fmt::format("{} is not a string", quote_text(key)));
  return {value.GetString(), value.GetStringLength()};
}

std::int64_t get_integer(const Value& object, const char* key) {
  const Value& value = member(object, key);
  if (!value.IsInt64() || value.GetInt64() < 0)
    refuse(fmt::format("{} is not a count", quote_text(key)));
  return value.GetInt64();
}

const Value& get_array(const Value& object, const char* key) {
  const Value& value = member(object, key);
  if (!value.IsArray()) refuse(fmt::format("{} is not a list", quote_text(key)));
  return value;
}

std::string get_name(const Value& object, const char* key) {
  std::string name = get_string(object, key);
  if (!is_plain_name(name)) refuse(fmt::format("{} is not a legal name", quote_text(name)));
  return name;
}

std::map<std::string, std::string> get_map(const Value& object, const char* key) {
  const Value& value = member(object, key);
  if (!value.IsObject()) refuse(fmt::format("{} is not an object", quote_text(key)));
  std::map<std::string, std::string> values;
  for (const auto& entry : value.GetObject())
    values[entry.name.GetString()] = get_string(value, entry.name.GetString());
  return values;
}

TensorEntry get_tensor(const Value& object) {
  TensorEntry entry;
  entry.name = get_name(object, "name");
  const std::string type = get_string(object, "type");
  if (type != "float32" && type != "int64") refuse(fmt::format("type {}", quote_text(type)));
  entry.type = type == "int64" ? ElementType::kInt64 : ElementType::kFloat32;
  for (const Value& n : get_array(object, "shape").GetArray()) {
    if (!n.IsInt64() || n.GetInt64() < 0) refuse("a dimension is not a count");
    entry.shape.push_back(n.GetInt64());
  }
  return entry;
}

PieceEntry get_piece(const Value& object) {
  PieceEntry entry;
  entry.state = get_name(object, "state");
  entry.tensor = get_name(object, "tensor");
  entry.begin = get_integer(object, "begin");
  entry.end = get_integer(object, "end");
  if (entry.end < entry.begin) refuse(fmt::format("{} ends before it begins", entry.path()));
  if (!object.HasMember("tile")) return entry;
  const std::int64_t tile = get_integer(object, "tile");
  if (tile < 2 || tile > 1024) refuse(fmt::format("{} in tiles of {}", entry.path(), tile));
  entry.tile = static_cast<int>(tile);
  return entry;
}

std::vector<FileEntry> get_files(const Value& list) {
  std::vector<FileEntry> files;
  for (const Value& object : list.GetArray()) {
    FileEntry file;
    file.name = get_name(object, "name");
    file.num_bytes = static_cast<std::uint64_t>(get_integer(object, "bytes"));
    file.digest = get_string(object, "xxh3_128");
    for (const Value& entry : get_array(object, "tensors").GetArray())
      file.tensors.push_back(get_tensor(entry));
    for (const Value& entry : get_array(object, "pieces").GetArray())
      file.pieces.push_back(get_piece(entry));
    files.push_back(std::move(file));
  }
  return files;
}

void put(Writer& out, const CheckpointMeta& meta) {
  put(out, "step", meta.step);
  put(out, "epoch", meta.epoch);
  put(out, "world_size", meta.world_size);
  put(out, "best", meta.best ? "yes" : "no");
  out.Key("config");
  out.StartArray();
  for (const ConfigEntry& entry : meta.config) {
    out.StartObject();
    put(out, "key", entry.key);
    put(out, "value", entry.value);
    put(out, "class", name_of(entry.kind));
    out.EndObject();
  }
  out.EndArray();
  put(out, "versions", meta.versions);
  put(out, "notes", meta.notes);
}

CheckpointMeta get_meta(const Value& object) {
  CheckpointMeta meta;
  meta.step = get_integer(object, "step");
  meta.epoch = get_integer(object, "epoch");
  meta.world_size = static_cast<int>(get_integer(object, "world_size"));
  meta.best = get_string(object, "best") == "yes";
  for (const Value& entry : get_array(object, "config").GetArray())
    meta.config.push_back({get_string(entry, "key"), get_string(entry, "value"),
                           class_of(get_string(entry, "class"))});
  meta.versions = get_map(object, "versions");
  meta.notes = get_map(object, "notes");
  return meta;
}

// Iterative: nesting costs heap, never stack.
rapidjson::Document parse(std::string_view text) {
  rapidjson::Document document;
  document.Parse<rapidjson::kParseIterativeFlag>(text.data(), text.size());
  if (document.HasParseError())
    refuse(fmt::format("not JSON at byte {}", document.GetErrorOffset()));
  return document;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

std::string PieceEntry::path() const {
  const std::string path = fmt::format("{}/{}/{}-{}", state, tensor, begin, end);
  return tile == 1 ? path : fmt::format("{}-{}", path, tile);
}

std::string optimizer_file_name(int rank, int size) {
  return fmt::format("optimizer-{:05}-of-{:05}.h5", rank, size);
}

bool is_plain_name(std::string_view name) {
  constexpr std::string_view kLegal =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  return !name.empty() && name.size() < 256 && name != "." && name != ".." &&
         name.find_first_not_of(kLegal) == std::string_view::npos;
}

std::string encode_manifest(const Manifest& manifest) {
  rapidjson::StringBuffer buffer;
  Writer out(buffer);
  out.SetIndent(' ', 1);
  out.SetFormatOptions(rapidjson::kFormatSingleLineArray);
  out.StartObject();
  put(out, "format", kManifestFormat);
  put(out, "sequence", manifest.sequence);
  put(out, manifest.meta);
  out.Key("files");
  put_all(out, manifest.files);
  out.EndObject();
  std::string text(buffer.GetString(), buffer.GetSize());
  text.resize(text.rfind('}') - 1);  // reopened for the digest: drops "\n}"
  const std::string digest = digest_of(bytes_of(text));
  return text.append(kDigestKey).append(digest).append(kDigestEnd);
}

Manifest decode_manifest(std::string_view text) {
  constexpr std::size_t kHexDigits = 32;
  const std::size_t tail = kDigestKey.size() + kHexDigits + kDigestEnd.size();
  if (text.size() < tail) refuse(fmt::format("{} is truncated", kManifestName));
  const std::string_view body = text.substr(0, text.size() - tail);
  const std::string digest = digest_of(bytes_of(body));
  const std::string expected = fmt::format("{}{}{}", kDigestKey, digest, kDigestEnd);
  if (text.substr(body.size()) != expected)
    refuse(fmt::format("{} does not match its own digest", kManifestName));
  const rapidjson::Document document = parse(text);
  if (get_integer(document, "format") != kManifestFormat)
    refuse(fmt::format("format {}, this program reads {}", get_integer(document, "format"),
                       kManifestFormat));
  Manifest manifest;
  manifest.sequence = get_integer(document, "sequence");
  manifest.meta = get_meta(document);
  manifest.files = get_files(get_array(document, "files"));
  manifest.digest = digest;
  return manifest;
}

Manifest load_manifest(const fs::path& folder) {
  try {
    const std::vector<std::byte> bytes = read_whole(folder / kManifestName, kMaxManifestBytes);
    return decode_manifest({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  } catch (const comm::Error& error) {
    refuse(fmt::format("checkpoint {}: {}", quote_text(folder.native()), error.what()));
  }
}

std::string encode_files(const std::vector<FileEntry>& files) {
  rapidjson::StringBuffer buffer;
  Writer out(buffer);
  put_all(out, files);
  return {buffer.GetString(), buffer.GetSize()};
}

std::vector<FileEntry> decode_files(std::string_view text) {
  const rapidjson::Document document = parse(text);
  REQUIRE(document.IsArray(), "a rank sent no list of files");
  return get_files(document);
}

}  // namespace trainer
