// Kernels by name, as the driver finds them.
#pragma once
#include "block.h"

#include <functional>
#include <map>
#include <string>
#include <type_traits>
#include <utility>

namespace twin {

// Makes a thread's call from an array of pointers to the arguments.
using Kernel = std::function<std::function<void()>(void **)>;

std::map<std::string, Kernel> &kernels();

template <class... A, size_t... I> Kernel unpack(void (*kernel)(A...), std::index_sequence<I...>) {
  return [kernel](void **arguments) {
    return [kernel, arguments] { kernel(*(std::remove_const_t<std::remove_reference_t<A>> *)arguments[I]...); };
  };
}

struct Registration {
  template <class... A> Registration(const char *name, void (*kernel)(A...)) {
    kernels()[name] = unpack(kernel, std::index_sequence_for<A...>{});
  }
};

}  // namespace twin
