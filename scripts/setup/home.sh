# Sourced by scripts, right after they have changed to a folder of the checkout. Sets RAG_RETRIEVAL_HOME to the absolute path of
# the cache folder, by the program's own rule (runtime.Home). A relative path counts from where the script was called.
# shellcheck shell=bash
case ${RAG_RETRIEVAL_HOME:-} in
  /*) ;;
  ?*) RAG_RETRIEVAL_HOME=$OLDPWD/$RAG_RETRIEVAL_HOME ;;
  *)
    case ${XDG_CACHE_HOME:-} in
      /*) RAG_RETRIEVAL_HOME=$XDG_CACHE_HOME/rag-retrieval ;;
      *)
        case ${HOME:-} in
          /*) RAG_RETRIEVAL_HOME=$HOME/.cache/rag-retrieval ;;
          *)
            echo "no folder for the cache: HOME is not set; set RAG_RETRIEVAL_HOME to a folder of yours" >&2
            exit 1
            ;;
        esac
        ;;
    esac
    ;;
esac
export RAG_RETRIEVAL_HOME
