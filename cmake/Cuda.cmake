# Looks for the CUDA toolkit (nvcc, cuBLAS, NVTX) and cuDNN 9 and sets
#   SEMIVOX_WITH_CUDA   whether the GPU code is compiled
#   SEMIVOX_CUDA_NOTE   one line for people: what was found, or what is missing
# and the target semivox::cuda. With SEMIVOX_CUDA=AUTO whatever is missing switches the GPU code off; with ON it stops.
set(SEMIVOX_WITH_CUDA OFF)
set(SEMIVOX_CUDA_NOTE "")

# Ends the search for the reason given.
macro(semivox_no_cuda reason)
  set(SEMIVOX_CUDA_NOTE "${reason}")
  if(SEMIVOX_CUDA STREQUAL "ON")
    message(FATAL_ERROR "SEMIVOX_CUDA=ON, but ${reason}")
  endif()
  return()
endmacro()

if(NOT SEMIVOX_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SEMIVOX_CUDA: found '${SEMIVOX_CUDA}', expected AUTO, ON or OFF")
endif()
if(SEMIVOX_CUDA STREQUAL "OFF")
  semivox_no_cuda("switched off by SEMIVOX_CUDA=OFF")
endif()
if(SEMIVOX_SANITIZE)
  semivox_no_cuda("the sanitizers do not work with the CUDA runtime")
endif()

# nvcc: CUDACXX, the PATH, then the installer's folders.
file(GLOB toolkit_folders /usr/local/cuda-* /opt/cuda*)
list(SORT toolkit_folders COMPARE NATURAL ORDER DESCENDING)
find_program(SEMIVOX_NVCC nvcc
  HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH
  PATHS /usr/local/cuda ${toolkit_folders} PATH_SUFFIXES bin)
if(DEFINED CMAKE_CUDA_COMPILER AND EXISTS "${CMAKE_CUDA_COMPILER}")
  set(SEMIVOX_NVCC ${CMAKE_CUDA_COMPILER})
elseif(DEFINED ENV{CUDACXX} AND EXISTS "$ENV{CUDACXX}")
  set(SEMIVOX_NVCC $ENV{CUDACXX})
endif()
if(NOT SEMIVOX_NVCC)
  semivox_no_cuda("nvcc is neither on the PATH nor in /usr/local/cuda (give its path with -DCMAKE_CUDA_COMPILER=...)")
endif()
get_filename_component(toolkit ${SEMIVOX_NVCC} REALPATH)
get_filename_component(toolkit ${toolkit} DIRECTORY)
get_filename_component(toolkit ${toolkit} DIRECTORY)

# cuDNN: -DCUDNN_ROOT, the system, the toolkit's folder, then Python wheels (nvidia/cudnn), whose library has no plain .so name.
set(CUDNN_ROOT "" CACHE PATH "Folder with cuDNN's include/ and lib/")
file(GLOB wheel_folders
  $ENV{VIRTUAL_ENV}/lib/python3*/site-packages/nvidia/cudnn $ENV{CONDA_PREFIX}/lib/python3*/site-packages/nvidia/cudnn
  $ENV{HOME}/.local/lib/python3*/site-packages/nvidia/cudnn /usr/local/lib/python3*/dist-packages/nvidia/cudnn
  /usr/local/lib/python3*/site-packages/nvidia/cudnn /usr/lib/python3*/dist-packages/nvidia/cudnn)
find_program(SEMIVOX_PYTHON3 python3)
if(SEMIVOX_PYTHON3)  # only asked where its packages lie; nothing here needs Python
  execute_process(COMMAND ${SEMIVOX_PYTHON3} -c "import sys; print(';'.join(p + '/nvidia/cudnn' for p in sys.path if p))"
                  OUTPUT_VARIABLE python_folders OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  list(APPEND wheel_folders ${python_folders})
endif()
find_path(CUDNN_INCLUDE_DIR cudnn_version.h
  HINTS ${CUDNN_ROOT} ENV CUDNN_ROOT ENV CUDNN_PATH
  PATHS ${toolkit} ${toolkit}/targets/x86_64-linux ${wheel_folders} PATH_SUFFIXES include)
if(CUDNN_INCLUDE_DIR)  # the library beside the header first, so that both are of one version
  get_filename_component(cudnn_folder ${CUDNN_INCLUDE_DIR} DIRECTORY)
  find_library(CUDNN_LIBRARY NAMES libcudnn.so.9 cudnn HINTS ${cudnn_folder} PATH_SUFFIXES lib64 lib)
endif()
if(NOT CUDNN_INCLUDE_DIR OR NOT CUDNN_LIBRARY)
  semivox_no_cuda("nvcc is there (${SEMIVOX_NVCC}), but no cuDNN 9 in the toolkit, the system or Python wheels (give -DCUDNN_ROOT=...)")
endif()
file(STRINGS ${CUDNN_INCLUDE_DIR}/cudnn_version.h version_lines REGEX "define CUDNN_(MAJOR|MINOR|PATCHLEVEL) ")
string(REGEX MATCHALL "[0-9]+" CUDNN_VERSION "${version_lines}")
list(JOIN CUDNN_VERSION "." CUDNN_VERSION)
if(CUDNN_VERSION VERSION_LESS 9)
  semivox_no_cuda("found cuDNN ${CUDNN_VERSION} in ${CUDNN_INCLUDE_DIR}, expected 9 (give -DCUDNN_ROOT=...)")
endif()

# Architectures: A100 and H100, and the one of this machine when it has a GPU.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(architectures 80 90)
  find_program(SEMIVOX_NVIDIA_SMI nvidia-smi)
  if(SEMIVOX_NVIDIA_SMI)
    execute_process(COMMAND ${SEMIVOX_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
                    OUTPUT_VARIABLE capabilities RESULT_VARIABLE status ERROR_QUIET)
    if(status EQUAL 0)
      string(REGEX MATCHALL "[0-9]+\\.[0-9]" capabilities "${capabilities}")
      string(REPLACE "." "" capabilities "${capabilities}")
      list(APPEND architectures ${capabilities})
      list(REMOVE_DUPLICATES architectures)
    endif()
  endif()
  set(CMAKE_CUDA_ARCHITECTURES "${architectures}" CACHE STRING "GPU architectures to compile for")
endif()
set(architectures ${CMAKE_CUDA_ARCHITECTURES})
list(JOIN architectures "," architecture_names)
set(architecture_flag "")

# nvcc's front end and optimiser run once, for the oldest of them, and ptxas for each: no kernel asks for more than the oldest
# has. A list with names of CMake's own (native, 90a, 80-real) is left to CMake.
if(architectures MATCHES "^[0-9;]+$")
  list(SORT architectures COMPARE NATURAL)
  list(GET architectures 0 oldest)
  set(code compute_${oldest})
  foreach(architecture IN LISTS architectures)
    list(APPEND code sm_${architecture})
  endforeach()
  list(JOIN code "," code)
  set(CMAKE_CUDA_ARCHITECTURES OFF)
  set(architecture_flag " --generate-code=arch=compute_${oldest},code=[${code}]")
endif()

# The toolkit is complete and works with this C++ compiler?
set(ENV{CUDACXX} ${SEMIVOX_NVCC})
set(ENV{CUDAHOSTCXX} ${CMAKE_CXX_COMPILER})
include(CheckLanguage)
if(NOT CMAKE_CUDA_COMPILER)
  unset(CMAKE_CUDA_COMPILER CACHE)  # a failure of an earlier configuration may have been repaired since
endif()
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  semivox_no_cuda("${SEMIVOX_NVCC} does not compile a test program with ${CMAKE_CXX_COMPILER} (see CMakeFiles/CMakeError.log)")
endif()
enable_language(CUDA)
string(APPEND CMAKE_CUDA_FLAGS "${architecture_flag}")
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12)
  semivox_no_cuda("found CUDA ${CMAKE_CUDA_COMPILER_VERSION}, expected 12 or newer for C++20")
endif()
find_package(CUDAToolkit QUIET)
if(NOT TARGET CUDA::cudart OR NOT TARGET CUDA::cublas)
  semivox_no_cuda("the toolkit at ${toolkit} lacks the CUDA runtime or cuBLAS")
endif()
find_path(NVTX_INCLUDE_DIR nvtx3/nvToolsExt.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
if(NOT NVTX_INCLUDE_DIR)
  semivox_no_cuda("the toolkit at ${toolkit} lacks NVTX 3 (nvtx3/nvToolsExt.h)")
endif()

# The runtime is linked statically and finds the driver when it runs, so the program also starts where there is none.
set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -DNDEBUG -lineinfo")
add_library(semivox::cuda INTERFACE IMPORTED)
target_include_directories(semivox::cuda SYSTEM INTERFACE ${CUDNN_INCLUDE_DIR} ${CUDAToolkit_INCLUDE_DIRS} ${NVTX_INCLUDE_DIR})
target_link_libraries(semivox::cuda INTERFACE ${CUDNN_LIBRARY} CUDA::cublas CUDA::cudart_static ${CMAKE_DL_LIBS} Threads::Threads)
set(SEMIVOX_WITH_CUDA ON)
set(SEMIVOX_CUDA_NOTE "CUDA ${CMAKE_CUDA_COMPILER_VERSION}, cuDNN ${CUDNN_VERSION}, for sm_${architecture_names}")
