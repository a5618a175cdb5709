/* Ends at once. */
#include "steps.h"

int main(void) { return STATUS; }
