// A C++ program with a section that no checkpoint may cut, left by a return, a throw or the end of the block alike.
//
//   g++ -I../../include critical_section.cpp -o critical_section
//   dmtcp_launch ./critical_section
#include <chrono>
#include <iostream>
#include <stdexcept>
#include <thread>

#include "dmtcp.h"

class Uncut
{
public:
  Uncut() { dmtcp_disable_ckpt(); }
  ~Uncut() { dmtcp_enable_ckpt(); }
  Uncut(const Uncut &) = delete;
  Uncut &operator=(const Uncut &) = delete;
};

// Says whether a checkpoint came between its begin and its end.
static bool transaction(int round)
{
  Uncut uncut;
  uint32_t before = dmtcp_get_generation();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  bool whole = before == dmtcp_get_generation();
  if (round % 2 == 0) {
    throw std::runtime_error(whole ? "whole" : "cut");
  }
  return whole;
}

int main()
{
  for (int round = 1;; round++) {
    try {
      std::cout << "round " << round << ": " << (transaction(round) ? "whole" : "cut") << std::endl;
    } catch (const std::runtime_error &outcome) {
      std::cout << "round " << round << ": " << outcome.what() << std::endl;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}
