// Fusion: a producer may absorb its only consumer (conv + norm, + residual add, + ReLU). The ops
// decide; this pass knows none of them.
#include <algorithm>
#include <map>

#include "models/graph/plan.h"

namespace models {
namespace {

struct Rewriter {
  const Graph& graph;
  std::vector<Node> nodes;  // op == null: absorbed by a later node
  std::vector<int> producer;
  std::vector<int> uses;
  std::vector<int> readers;  // of uses: nodes

  explicit Rewriter(const Graph& g)
      : graph(g), nodes(g.nodes()), producer(g.values().size(), -1), uses(g.values().size(), 0) {
    for (std::size_t n = 0; n < nodes.size(); ++n) {
      for (Value input : nodes[n].inputs) ++uses[input.id];
      for (Value output : nodes[n].outputs) producer[output.id] = static_cast<int>(n);
    }
    readers = uses;
    // A value that someone outside the graph reads cannot disappear.
    for (const auto& named : g.outputs()) ++uses[named.value.id];
    for (const auto& named : g.losses()) ++uses[named.value.id];
    for (std::size_t v = 0; v < uses.size(); ++v) uses[v] += g.values()[v].statistic >= 0;
  }

  // Input slots of node n, those produced last first: everything else they need exists by then.
  std::vector<int> slots(const Node& node) const {
    std::vector<int> order;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (producer[node.inputs[i].id] >= 0) order.push_back(static_cast<int>(i));
    }
    std::sort(order.begin(), order.end(), [&](int a, int b) {
      return producer[node.inputs[a].id] > producer[node.inputs[b].id];
    });
    return order;
  }

  // The consumer's output takes the place of the link, output 0 of the source, whose other outputs
  // come with it to the consumer's place in the list: no node may read them.
  bool can_absorb(const Node& source, const Node& consumer, Value link) const {
    if (uses[link.id] != 1 || link != source.outputs[0]) return false;
    if (source.outputs.size() > 1 && consumer.outputs.size() != 1) return false;
    return std::all_of(source.outputs.begin() + 1, source.outputs.end(),
                       [&](Value output) { return readers[output.id] == 0; });
  }

  bool absorb_into_producer(int n) {
    Node& consumer = nodes[n];
    for (int slot : slots(consumer)) {
      const Value link = consumer.inputs[slot];
      Node& source = nodes[producer[link.id]];
      if (!can_absorb(source, consumer, link)) continue;
      auto fused = source.op->absorb(*consumer.op, slot);
      if (!fused) continue;
      std::vector<Value> inputs = source.inputs;
      for (std::size_t i = 0; i < consumer.inputs.size(); ++i) {
        if (static_cast<int>(i) != slot) inputs.push_back(consumer.inputs[i]);
      }
      std::vector<Value> outputs = consumer.outputs;
      outputs.insert(outputs.end(), source.outputs.begin() + 1, source.outputs.end());
      // A later consumer of this one finds what moved here.
      for (Value output : outputs) producer[output.id] = n;
      consumer = Node{std::move(fused), std::move(inputs), std::move(outputs), source.scope};
      source.op = nullptr;
      return true;
    }
    return false;
  }
};

}  // namespace

Graph fuse(const Graph& graph, std::span<const std::string> disabled) {
  Rewriter rewriter(graph);
  for (std::size_t n = 0; n < rewriter.nodes.size(); ++n) {
    const std::string name = rewriter.nodes[n].op->name();
    if (std::find(disabled.begin(), disabled.end(), name) != disabled.end()) continue;
    rewriter.absorb_into_producer(static_cast<int>(n));
  }
  Graph result = graph;
  std::erase_if(rewriter.nodes, [](const Node& node) { return node.op == nullptr; });
  result.nodes_ = std::move(rewriter.nodes);
  for (auto& value : result.values_) value.producer = -1;
  for (std::size_t n = 0; n < result.nodes_.size(); ++n) {
    for (Value output : result.nodes_[n].outputs) {
      result.values_[output.id].producer = static_cast<int>(n);
    }
  }
  return result;
}

}  // namespace models
