// A C++ program that asks for its own checkpoint. It runs without dmtcp_launch, too.
//
//   g++ -I../../include self_checkpoint.cpp -o self_checkpoint
//   dmtcp_launch ./self_checkpoint                 counts to 10, takes a checkpoint, goes on
//   dmtcp_restart ckpt_self_checkpoint_*.dmtcp     goes on from 11, every time
#include <chrono>
#include <iostream>
#include <thread>

#include "dmtcp.h"

int main()
{
  int step;

  for (step = 1; step <= 10; step++) {
    std::cout << "step " << step << std::endl;
  }
  switch (dmtcp_checkpoint()) {
  case DMTCP_AFTER_CHECKPOINT: std::cout << "the image is " << dmtcp_get_ckpt_filename() << std::endl; break;
  case DMTCP_AFTER_RESTART: std::cout << "restarted" << std::endl; break;
  case DMTCP_NOT_PRESENT: std::cout << "no checkpoint: run me under dmtcp_launch" << std::endl; break;
  default: std::cout << "the checkpoint failed" << std::endl; break;
  }
  for (; step <= 20; step++) {
    std::cout << "step " << step << std::endl;
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}
