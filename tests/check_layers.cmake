# Fails when a folder includes another that it must not know: apps -> methods -> layers -> kernels -> engine, io -> kernels.
#   cmake -DROOT=<repository> -P tests/check_layers.cmake
cmake_minimum_required(VERSION 3.22)

set(engine_may_use engine)
set(kernels_may_use engine kernels)
set(layers_may_use engine kernels layers)
set(methods_may_use engine kernels layers methods)
set(io_may_use engine kernels io)

# volume.hpp is plain data without a file format.
set(exceptions "methods io/volume.hpp")

set(violations 0)
set(includes_seen 0)
foreach(folder engine kernels layers methods io)
  file(GLOB sources ${ROOT}/${folder}/*.hpp ${ROOT}/${folder}/*.cpp ${ROOT}/${folder}/*.cu)
  foreach(source IN LISTS sources)
    file(STRINGS ${source} includes REGEX "^#include \"")
    foreach(include IN LISTS includes)
      string(REGEX MATCH "\"(([^/\"]+)/[^\"]*)\"" unused "${include}")
      math(EXPR includes_seen "${includes_seen} + 1")
      if(NOT CMAKE_MATCH_2 IN_LIST ${folder}_may_use AND NOT "${folder} ${CMAKE_MATCH_1}" IN_LIST exceptions)
        message(SEND_ERROR "${source}: ${include}: ${folder}/ may include only ${${folder}_may_use}")
        math(EXPR violations "${violations} + 1")
      endif()
    endforeach()
  endforeach()
endforeach()
if(includes_seen EQUAL 0)
  message(FATAL_ERROR "no includes found under ${ROOT}: the check looked at nothing")
endif()
message(STATUS "${includes_seen} includes checked, ${violations} in the wrong direction")
