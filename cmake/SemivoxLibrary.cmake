# semivox_library(<folder> [<folders it may use>...]): the static library semivox_<folder> of the folder's sources.
#
# `.cu` files are written once for both worlds: nvcc compiles them where there is CUDA, the C++ compiler elsewhere.
function(semivox_library folder)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.cpp ${CMAKE_SOURCE_DIR}/${folder}/*.cu)
  list(REMOVE_ITEM sources ${CMAKE_SOURCE_DIR}/apps/main.cpp)
  if(NOT sources)
    message(FATAL_ERROR "no sources in ${CMAKE_SOURCE_DIR}/${folder}: the clone is incomplete")
  endif()
  add_library(semivox_${folder} STATIC ${sources})
  semivox_compile_options(semivox_${folder})
  foreach(used IN LISTS ARGN)
    target_link_libraries(semivox_${folder} PUBLIC semivox_${used})
  endforeach()
endfunction()

# The standard library's headers, parsed once for the C++ files of all these libraries: two thirds of a second less for each.
# Not nlohmann/json.hpp, which as a precompiled header makes files slower to compile. nvcc knows no precompiled headers.
function(semivox_precompile)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/headers.cpp CONTENT "")
  add_library(semivox_headers OBJECT ${CMAKE_BINARY_DIR}/generated/headers.cpp)
  semivox_compile_options(semivox_headers)
  target_link_libraries(semivox_headers PRIVATE OpenMP::OpenMP_CXX nlohmann_json::nlohmann_json)
  target_precompile_headers(semivox_headers PRIVATE <algorithm> <array> <cmath> <deque> <filesystem> <fstream> <functional>
    <map> <memory> <optional> <string> <vector>)
  foreach(folder IN LISTS ARGN)
    target_precompile_headers(semivox_${folder} REUSE_FROM semivox_headers)
  endforeach()
endfunction()

# Include root, warnings as errors, processor and CUDA flags for a target of our own code.
function(semivox_compile_options target)
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR})
  set(host_flags ${SEMIVOX_HOST_FLAGS} ${SEMIVOX_WARNINGS})
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${SEMIVOX_LANGUAGE_FLAG};${host_flags}>")
  get_target_property(sources ${target} SOURCES)
  list(FILTER sources INCLUDE REGEX "\\.cu$")
  if(SEMIVOX_WITH_CUDA)
    list(JOIN host_flags "," host_flags)
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${SEMIVOX_LANGUAGE_FLAG}>"
      "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-Werror=all-warnings;-Xcompiler=${host_flags},-fopenmp>")
    target_compile_definitions(${target} PUBLIC SEMIVOX_CUDA)
    target_link_libraries(${target} PUBLIC semivox::cuda)
  elseif(sources)
    set_source_files_properties(${sources} PROPERTIES LANGUAGE CXX)
  endif()
endfunction()
