// wan27 as native SimGrid actors: one per stream of every rank, as the engine has them.
//
// Reads node and streams as text (simgrid_actors.py writes it) and prints JSON: seconds by the clock and of CPU time,
// from the start of SimGrid's engine to the end of the simulation, and the instant at which its last work ended. Flows,
// links, sharing and options are those of simgrid_tasks.py. A rank's streams wait for each other by semaphores: an
// event is recorded as often as it is waited for.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <simgrid/s4u.hpp>

namespace s4u = simgrid::s4u;

namespace {

constexpr double SPEED = 1e12;  // FLOP/s of a GPU: kernels have as many FLOPs as they need for their seconds.

enum class Verb { kernel, copy, all_to_all, record, wait };

struct Command {
  Verb verb;
  double seconds = 0;
  std::uint64_t bytes = 0;
  std::string event;
};

struct Stream {
  std::string name;
  std::vector<Command> first;
  std::vector<Command> repeated;
  long times = 0;
};

struct Rank {
  s4u::Host* gpu;
  std::map<std::string, s4u::SemaphorePtr> events;
  std::vector<s4u::CommPtr> flows;  // Of the all-to-all that it is in.
};

struct Node {
  s4u::NetZone* zone;
  s4u::Host* memory = nullptr;
  std::vector<Rank> ranks{};
  std::vector<Stream> streams{};  // The same on every rank.
  std::vector<Rank*> here{};      // Those that have come to the all-to-all.
  s4u::BarrierPtr everybody{};
};

Command read_command(const std::string& verb, std::istream& rest) {
  Command command{};
  if (verb == "kernel") {
    command.verb = Verb::kernel;
    rest >> command.seconds;
  } else if (verb == "copy" || verb == "all-to-all") {
    command.verb = verb == "copy" ? Verb::copy : Verb::all_to_all;
    rest >> command.bytes;
  } else if (verb == "record" || verb == "wait") {
    command.verb = verb == "record" ? Verb::record : Verb::wait;
    rest >> command.event;
  } else {
    throw std::runtime_error("unknown command: " + verb);
  }
  return command;
}

void read_link(Node& node, std::istream& rest) {
  std::string name;
  double rate;
  rest >> name >> rate;
  node.zone->add_link(name, rate)->set_latency(0)->seal();
}

void read_route(Node& node, std::istream& rest) {
  std::string from, to;
  rest >> from >> to;
  std::vector<s4u::LinkInRoute> links;
  for (std::string name; rest >> name;)
    links.emplace_back(s4u::Link::by_name(name));
  node.zone->add_route(s4u::Host::by_name(from), s4u::Host::by_name(to), links, false);
}

void read_stream_line(Node& node, const std::string& verb, std::istream& rest) {
  if (verb == "stream") {
    rest >> node.streams.emplace_back().name;
    return;
  }
  Stream& stream = node.streams.back();
  if (verb == "repeat")
    rest >> stream.times;
  else
    (stream.times ? stream.repeated : stream.first).push_back(read_command(verb, rest));
}

void read_line(Node& node, const std::string& verb, std::istream& rest) {
  std::string name;
  if (verb == "memory") {
    rest >> name;
    node.memory = node.zone->add_host(name, SPEED);
  } else if (verb == "rank") {
    rest >> name;
    node.ranks.push_back({node.zone->add_host(name, SPEED), {}, {}});
  } else if (verb == "link") {
    read_link(node, rest);
  } else if (verb == "route") {
    read_route(node, rest);
  } else {
    read_stream_line(node, verb, rest);
  }
}

void read_node(Node& node, std::istream& text) {
  for (std::string line; std::getline(text, line);) {
    std::istringstream rest(line);
    std::string verb;
    rest >> verb;
    read_line(node, verb, rest);
    if (rest.fail() && verb != "route")  // A route is read until no link follows.
      throw std::runtime_error("cannot read: " + line);
  }
  node.zone->seal();
  node.everybody = s4u::Barrier::create(node.ranks.size());
}

void start_flow(Rank& from, Rank& to, std::uint64_t bytes) {
  from.flows.push_back(s4u::Comm::sendto_async(from.gpu, to.gpu, bytes));
  to.flows.push_back(from.flows.back());
}

// A flow starts when both its ranks have come: the later one starts it. A rank goes on after all of its own; since it
// has one with every other rank, it waits for all of them to come first.
void all_to_all(Node& node, Rank& rank, std::uint64_t bytes) {
  const std::vector<Rank*> earlier = node.here;  // Before anything is started: that lets other actors run.
  node.here.push_back(&rank);
  if (node.here.size() == node.ranks.size())
    node.here.clear();
  for (Rank* peer : earlier) {
    start_flow(rank, *peer, bytes);
    start_flow(*peer, rank, bytes);
  }
  node.everybody->wait();
  for (const s4u::CommPtr& flow : std::exchange(rank.flows, {}))
    flow->wait();
}

void run(Node& node, Rank& rank, const Command& command) {
  switch (command.verb) {
    case Verb::kernel:
      return s4u::this_actor::execute(command.seconds * SPEED);
    case Verb::copy:
      return s4u::Comm::sendto(node.memory, rank.gpu, command.bytes);
    case Verb::all_to_all:
      return all_to_all(node, rank, command.bytes);
    case Verb::record:
      return rank.events.at(command.event)->release();
    case Verb::wait:
      return rank.events.at(command.event)->acquire();
  }
}

void run_stream(Node& node, Rank& rank, const Stream& stream) {
  for (const Command& command : stream.first)
    run(node, rank, command);
  for (long i = 0; i < stream.times; i++)
    for (const Command& command : stream.repeated)
      run(node, rank, command);
}

void start_streams(Node& node) {
  for (Rank& rank : node.ranks) {
    for (const Stream& stream : node.streams) {
      for (const std::vector<Command>* commands : {&stream.first, &stream.repeated})
        for (const Command& command : *commands)
          if (!command.event.empty() && !rank.events.count(command.event))
            rank.events[command.event] = s4u::Semaphore::create(0);
      rank.gpu->add_actor(stream.name, [&node, &rank, &stream] { run_stream(node, rank, stream); });
    }
  }
}

}  // namespace

int main(int, char* argv[]) {
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t cpu_start = std::clock();
  std::vector<std::string> words{argv[0], "--cfg=network/model:raw", "--log=root.thres:critical",
                                 "--cfg=network/crosstraffic:0"};
  std::vector<char*> options;
  for (std::string& word : words)
    options.push_back(word.data());
  int count = static_cast<int>(options.size());
  options.push_back(nullptr);
  s4u::Engine engine(&count, options.data());
  Node node{engine.get_netzone_root()->add_netzone_full("node")};
  read_node(node, std::cin);
  start_streams(node);
  engine.run();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  const double cpu_seconds = static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC;
  std::printf("{\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"end_s\": %.17g}\n", seconds.count(), cpu_seconds,
              s4u::Engine::get_clock());
}
